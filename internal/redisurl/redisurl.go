package redisurl

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Form is the short form of what can be written, for help texts.
const Form = "redis://[user:password@]host:port[/db], rediss:// with TLS, unix:///path; " +
	"?addr=host:port for more nodes of a cluster or more Sentinels, ?master_set=name for Sentinels"

const portDefault = "6379"

// parameters are those of the query.
var parameters = []string{
	"addr", "ca", "cert", "db", "key", "master_set", "sentinel_password", "sentinel_user", "skip_verify",
}

// Target is where a Redis is and how to log in.
type Target struct {
	Addrs     []string // host:port, or the path of a socket
	Unix      bool
	Username  string
	Password  string
	DB        int
	TLS       *tls.Config // nil: none
	MasterSet string      // "": the addresses are not those of Sentinels

	SentinelUsername, SentinelPassword string
}

// Parse reads a URL. Its errors tell nothing of it.
func Parse(text string) (Target, error) {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Fragment != "" {
		return Target{}, errors.New("not a URL: it is written as " + Form + "; special characters of a password as %XX")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Target{}, errors.New("what follows the ? cannot be read")
	}
	for name := range query {
		if !slices.Contains(parameters, name) {
			return Target{}, fmt.Errorf("what follows the ? has an unknown name: there are %s", strings.Join(parameters, ", "))
		}
	}
	t := Target{
		Username: u.User.Username(), MasterSet: query.Get("master_set"),
		SentinelUsername: query.Get("sentinel_user"), SentinelPassword: query.Get("sentinel_password"),
	}
	t.Password, _ = u.User.Password()
	db := query.Get("db")
	switch u.Scheme {
	case "unix":
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") || query.Has("addr") || t.MasterSet != "" {
			return Target{}, errors.New("a socket is written as unix:///path, alone")
		}
		t.Addrs, t.Unix = []string{u.Path}, true
	case "redis", "rediss":
		for _, hostPort := range append([]string{u.Host}, query["addr"]...) {
			addr, err := address(hostPort)
			if err != nil {
				return Target{}, err
			}
			t.Addrs = append(t.Addrs, addr)
		}
		db = cmp.Or(strings.Trim(u.Path, "/"), db)
	default:
		return Target{}, errors.New("the URL begins with none of redis://, rediss:// and unix://")
	}
	if t.DB, err = strconv.Atoi(cmp.Or(db, "0")); err != nil || t.DB < 0 {
		return Target{}, errors.New("the database is no number")
	}
	if u.Scheme == "rediss" {
		t.TLS, err = readTLS(query)
	}
	return t, err
}

func address(hostPort string) (string, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		host, port = strings.Trim(hostPort, "[]"), portDefault // without a port
	}
	if _, err := netip.ParseAddr(host); err != nil && strings.Contains(host, ":") {
		host = ""
	}
	if number, err := strconv.ParseUint(port, 10, 16); host == "" || err != nil || number == 0 {
		return "", errors.New("an address is no host:port")
	}
	return net.JoinHostPort(host, port), nil
}

// readTLS leaves the server's name to who connects: addresses of a cluster are many.
func readTLS(query url.Values) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if query.Has("skip_verify") {
		skip, err := strconv.ParseBool(cmp.Or(query.Get("skip_verify"), "true"))
		if err != nil {
			return nil, errors.New("skip_verify is neither true nor false")
		}
		config.InsecureSkipVerify = skip
	}
	if path := query.Get("ca"); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, errors.New("ca holds no certificate")
		}
	}
	if query.Get("cert") != "" || query.Get("key") != "" {
		pair, err := tls.LoadX509KeyPair(query.Get("cert"), query.Get("key"))
		if err != nil {
			return nil, fmt.Errorf("cert and key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// Dial opens a connection to an address of the target, with TLS where it has that.
func (t Target) Dial(ctx context.Context, addr string, dialer *net.Dialer) (net.Conn, error) {
	switch {
	case t.Unix:
		return dialer.DialContext(ctx, "unix", addr)
	case t.TLS != nil:
		return (&tls.Dialer{NetDialer: dialer, Config: t.TLS}).DialContext(ctx, "tcp", addr)
	default:
		return dialer.DialContext(ctx, "tcp", addr)
	}
}
