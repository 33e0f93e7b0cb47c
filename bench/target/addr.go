package target

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports for FreeAddr: below those that the system gives to outgoing connections, of which a load
// test makes many, so that none of them takes the port before its server does.
const (
	portMin   = 20_000
	portMax   = 32_000
	portTries = 100
)

// FreeAddr finds an address on loopback for a server whose own must be known before it starts.
func FreeAddr(ctx context.Context) (string, error) {
	var config net.ListenConfig
	for range portTries {
		port := portMin + rand.IntN(portMax-portMin)
		listener, err := config.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return listener.Addr().String(), listener.Close()
		}
	}
	return "", errors.New("no free port was found on loopback")
}
