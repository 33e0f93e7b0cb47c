package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Protects the whole way of a shopper: log in, watch the countdown with a clock that is minutes wrong, buy, pay
// with points, get them back. The button opens by the shop's clock, with no request at the opening.
func TestShop_FromCountdownToRefund(t *testing.T) {
	p := open(t, "/", options{device: 7 * time.Minute})
	i := sell(t, 9*time.Second, "Kettle", nil)
	p.login("ann")
	looked, reads := time.Now(), p.count("GET /v1/sales")
	p.until(fmt.Sprintf("document.querySelector(%q)", i.card(".buy")))
	p.sees("Opens in")
	p.shot("upcoming")
	opened := eval[float64](p, fmt.Sprintf(`new Promise(resolve => {
		const button = document.querySelector(%q);
		const look = () => button.getAttribute('aria-disabled') === 'false' ? resolve(performance.timeOrigin + performance.now()) : setTimeout(look, 5);
		look();
	})`, i.card(".buy")))
	if late := opened - float64(i.OpensAt); late < -150 || late > 10_000 { // a busy machine may be late, a wrong clock is by minutes
		t.Errorf("the button opened %.0f ms after the opening", late)
	}
	p.until(fmt.Sprintf("document.querySelector(%q).textContent.includes('Kettle is open')", "#urgent"))
	p.shot("open")

	pressed := time.Now()
	p.press(i.card(".buy"))
	p.until("document.querySelector('#points')?.checkVisibility()")
	t.Logf("press to payable, by websocket: %d ms", time.Since(pressed).Milliseconds())
	if posts, sockets := p.count("POST /v1/items/"+i.ID+"/orders"), p.count("socket"); posts != 1 || sockets != 1 {
		t.Errorf("%d POSTs and %d sockets from the press to the pay page, want one each", posts, sockets)
	}
	// Two at once when the page is shown, then at most one in 4 s.
	if got, most := p.count("GET /v1/sales")-reads, 2+int(time.Since(looked)/(4*time.Second)); got > most {
		t.Errorf("the offers were read %d times in %s, want at most %d", got, time.Since(looked), most)
	}
	p.sees("Pay within")
	p.shot("payable")
	p.press("#points")
	p.sees("Thank you. It is yours.")
	p.shot("paid")
	p.press("#refund")
	p.sees("Money back?")
	p.shot("refund-asked")
	p.do(chromedp.SendKeys("#reason", "the wrong colour"))
	p.press("#dialog .main")
	p.sees("The money is back where it came from.")
	p.shot("refunded")

	p.do(chromedp.Click(`nav a[href="/orders"]`))
	p.sees("Kettle")
	p.sees("Refunded")
	p.shot("orders")
	p.press("#logout")
	p.sees("Log in to see your orders.")
	p.shot("logged-out")
}

// Protects the shopper who presses twice, and the one whom the shop does not answer at first: one order, one key.
func TestShop_OnePressOneOrder(t *testing.T) {
	p := open(t, "/", options{})
	i := sell(t, 0, "Teapot", nil)
	orders := "/v1/items/" + i.ID + "/orders"
	p.login("bob")
	p.until(fmt.Sprintf("document.querySelector(%q)", i.card(".buy")))
	var keys [8]atomic.Value
	var n atomic.Int32
	p.failing(func(r *http.Request) int {
		if r.URL.Path != orders {
			return 0
		}
		at := n.Add(1)
		keys[at].Store(r.Header.Get("Idempotency-Key"))
		switch at {
		case 1:
			return http.StatusServiceUnavailable
		case 2:
			return lost
		}
		return 0
	})
	eval[any](p, fmt.Sprintf("(b => { for (let n = 0; n < 3; n++) b.click() })(document.querySelector(%q)), 0", i.card(".buy")))
	p.sees("The shop is busy. Your request is kept and tried again")
	p.shot("busy")
	p.sees("Waiting for payment")
	if got := p.count("POST " + orders); got != 3 {
		t.Errorf("%d POSTs, want 3: two were not answered", got)
	}
	if keys[1].Load() != keys[2].Load() || keys[2].Load() != keys[3].Load() || keys[1].Load() == "" {
		t.Errorf("keys %v %v %v, want one", keys[1].Load(), keys[2].Load(), keys[3].Load())
	}
	p.failing(nil)

	// Who comes again is led to what he holds.
	p.do(chromedp.Click(".brand"))
	p.press(i.card(".buy"))
	p.sees("You hold an order of this offer.")
	p.shot("duplicate")
	p.press(i.card(`a[href^="/orders/"]`))
	p.sees("Waiting for payment")
	p.press("#cancel")
	p.sees("Give it back?")
	p.press("#dialog .main")
	p.sees("You gave it back.")
	p.shot("cancelled")
}

// Protects the word of a result that comes by long poll where no socket opens, or when it is cut.
func TestShop_WithoutSocket(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("cut %t", cut), func(t *testing.T) {
			i := sell(t, 0, "Jug", nil)
			p := open(t, "/items/"+i.ID, options{})
			if !cut {
				p.refuseSockets()
			}
			p.login("eve")
			pressed := time.Now()
			p.press(i.card(".buy"))
			p.sees("Waiting for payment")
			t.Logf("press to payable: %d ms", time.Since(pressed).Milliseconds())
			if cut {
				p.until("true")
				p.cut()
			}
			var order string
			eventually(t, func() error {
				order = strings.TrimPrefix(eval[string](p, "location.pathname"), "/orders/")
				if _, err := strconv.Atoi(order); err != nil {
					return fmt.Errorf("no order at %s", order)
				}
				return nil
			})
			newOther(t, "eve").cancel(t, order) // at another browser of hers
			p.sees("You gave it back.")
		})
	}
}

// Protects a shopper whose network goes away while the request is on its way.
func TestShop_Offline(t *testing.T) {
	i := sell(t, 0, "Bowl", nil)
	p := open(t, "/items/"+i.ID, options{})
	p.login("ann")
	p.failing(func(*http.Request) int { return lost })
	p.online(false)
	p.sees("You are offline.")
	p.press(i.card(".buy"))
	p.sees("Your request goes out as soon as you are back.")
	p.shot("offline")
	p.failing(nil)
	p.online(true)
	p.sees("Waiting for payment")
}

// Protects who comes too late: he learns it at once, that units may come back, and that they did.
func TestShop_SoldOutAndBack(t *testing.T) {
	i := sell(t, 0, "Plate", map[string]any{"stock": 1})
	p := open(t, "/items/"+i.ID, options{language: "zh"})
	p.login("zoe")
	p.sees("Plate（中文）")
	winner := newOther(t, "winner")
	order := winner.buy(t, i.ID)
	p.sees("付款中，可尝试捡漏")
	p.shot("sold-out-zh")
	winner.cancel(t, order)
	p.sees("又有货了")
	p.shot("back-zh")
	p.press(i.card(".buy"))
	p.sees("待付款")
	p.shot("payable-zh")
	p.press("#language")
	p.sees("Waiting for payment")
}

// Protects the states that a shop's operator makes: paused, ended; and the limit.
func TestShop_PausedAndLimit(t *testing.T) {
	i := sell(t, 0, "Spoon", map[string]any{"limit": 2})
	p := open(t, "/items/"+i.ID, options{})
	p.login("bob")
	admin(t, http.MethodPost, "/v1/admin/items/"+i.ID+"/pause", nil, nil)
	p.sees("The shop has stopped this offer for a moment.")
	p.shot("paused")
	admin(t, http.MethodPost, "/v1/admin/items/"+i.ID+"/resume", nil, nil)
	p.until(fmt.Sprintf("document.querySelector(%q).textContent === 'Buy now'", i.card(".buy")))
	p.do(chromedp.SetValue(i.card("select"), "2"))
	p.press(i.card(".buy"))
	p.sees("2 × ¥9.90")
	p.do(chromedp.NavigateBack())
	p.press(i.card(".buy"))
	p.sees("You hold as many as one person may.")
	p.shot("limit")
}

// toAlipay buys an item and goes to the page where it is paid.
func (p *tab) toAlipay(i item) {
	p.t.Helper()
	p.press(i.card(".buy"))
	p.press("#alipay")
	p.until("location.origin === '" + shopTest.alipay + "'")
}

// Protects the pay page: it comes back to the order, whose page waits for Alipay's word.
func TestShop_Alipay(t *testing.T) {
	i := sell(t, 0, "Pan", nil)
	p := open(t, "/items/"+i.ID, options{})
	p.login("eve")
	p.toAlipay(i)
	p.press(`button[value="pay"]`)
	p.until("location.pathname.startsWith('/orders/')")
	p.sees("Thank you. It is yours.")
	p.press("#refund")
	p.press("#dialog .main")
	p.sees("The money is back where it came from.")
}

// Protects a shopper who declines at Alipay and comes back: the order waits, the page says that this payment is over,
// and another way is open.
func TestShop_AlipayDeclined(t *testing.T) {
	i := sell(t, 0, "Ladle", nil)
	p := open(t, "/items/"+i.ID, options{})
	p.login("bob")
	p.toAlipay(i)
	p.press(`button[value="decline"]`)
	p.until(`!document.querySelector('button[value="decline"]')`)
	p.do(chromedp.Navigate(p.base + "/orders"))
	p.press(`main a[href^="/orders/"]`) // the newest
	p.sees("Ladle")
	p.press("#alipay")
	p.sees("That payment was ended. Pay another way.")
	p.until("!document.body.innerText.includes('Waiting for Alipay')")
	p.shot("declined")
	p.press("#points")
	p.sees("Thank you. It is yours.")
}

// Protects a shopper who pays too late: he is told before he goes to Alipay, warned, and told what became of it.
func TestShop_TooLate(t *testing.T) {
	i := sell(t, 0, "Whisk", map[string]any{"pay_timeout_s": 6})
	p := open(t, "/items/"+i.ID, options{})
	p.login("eve")
	p.press(i.card(".buy"))
	p.press("#alipay")
	p.sees("Too little time is left to pay.")
	p.shot("too-late")
	p.sees("It was not paid in time, so others may have it.")
	if eval[bool](p, "Boolean(document.querySelector('.acts button'))") {
		t.Error("an order that is over can still be paid or cancelled")
	}
	p.until("!document.body.innerText.includes('Too little time')")
	p.shot("timed-out")
}

// Protects a shopper on a small phone, in the dark, and one who has no pointer.
func TestShop_SmallDarkAndByKeyboard(t *testing.T) {
	i := sell(t, 0, "Cup", nil)
	p := open(t, "/", options{width: 320, dark: true})
	p.until(fmt.Sprintf("document.querySelector(%q)", i.card(".buy")))
	p.shot("phone-dark")
	tab := func(until string) {
		t.Helper()
		for range 60 {
			if eval[bool](p, "document.activeElement.matches("+strconv.Quote(until)+")") {
				return
			}
			p.do(chromedp.KeyEvent(kb.Tab))
		}
		t.Fatalf("the keyboard does not reach %s", until)
	}
	tab("#login")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.until("document.querySelector('#dialog').open")
	p.shot("phone-login")
	tab("#user")
	p.do(chromedp.KeyEvent("kim"), chromedp.KeyEvent(kb.Enter))
	p.until("document.querySelector('#logout')")
	tab(i.card(".buy"))
	p.do(chromedp.KeyEvent(kb.Enter))
	p.sees("Waiting for payment")
	p.shot("phone-payable")
	tab("#points")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.sees("Not enough points.")
	p.until("document.activeElement.id === 'points'") // who has no pointer stays where he was
	p.shot("phone-refused")
}
