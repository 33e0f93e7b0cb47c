package server

import (
	"net"
	"net/netip"
	"strings"

	"github.com/valyala/fasthttp"
)

// addressed lets requests through that were sent to an address, to a loopback name or to one of the
// hosts. Any page can make a name of its own lead to 127.0.0.1 and read what is served there under
// that name; no page can make an address its own. Whoever names no host is no browser.
func addressed(hosts []string, next fasthttp.RequestHandler) fasthttp.RequestHandler {
	known := map[string]bool{"": true, "localhost": true}
	for _, host := range hosts {
		known[hostName(host)] = true
	}
	return func(ctx *fasthttp.RequestCtx) {
		host := hostName(string(ctx.Request.Header.Host()))
		if _, err := netip.ParseAddr(host); err != nil && !known[host] && !strings.HasSuffix(host, ".localhost") {
			beginAnswer(ctx)
			refuse(ctx, problemMisdirected)
			return
		}
		next(ctx)
	}
}

// opsHosts are the names of the ops listener.
func (s *Server) opsHosts() []string { return append([]string{s.config.OpsAddr}, s.config.OpsHosts...) }

// hostName is a host without its port, as it is compared.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}
