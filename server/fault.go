package server

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// faultLog tells the operator of faults without drowning him: of each message at most one
// line a second, with the number of lines left out.
type faultLog struct {
	logger *slog.Logger
	lines  sync.Map // *faultLine by message; messages are constants, so they are few
}

// faultLine is the state of one message.
type faultLine struct {
	next   atomic.Int64 // unix nanoseconds from which a line may be written again
	silent atomic.Int64 // lines left out since the last
}

const faultLogEvery = time.Second

func (f *faultLog) log(message string, args ...any) {
	found, ok := f.lines.Load(message)
	if !ok {
		found, _ = f.lines.LoadOrStore(message, new(faultLine))
	}
	line := found.(*faultLine)
	now := time.Now().UnixNano()
	next := line.next.Load()
	if now < next || !line.next.CompareAndSwap(next, now+int64(faultLogEvery)) {
		line.silent.Add(1)
		return
	}
	if silent := line.silent.Swap(0); silent > 0 {
		args = append(args, "left_out", silent)
	}
	f.logger.Error(message, args...) //nolint:sloglint // the callers' messages are constants
}

// of is log for a fault of one request, which the line names as the answer does.
func (f *faultLog) of(ctx *fasthttp.RequestCtx, message string, args ...any) {
	f.log(message, append(args, "request_id", string(requestID(ctx)))...)
}

// Printf takes what fasthttp reports of single connections.
func (f *faultLog) Printf(format string, args ...any) {
	f.log("http connection", "error", fmt.Sprintf(format, args...))
}
