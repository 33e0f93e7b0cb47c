package redisurl_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"flashsale/internal/devstack/stacktest"
	"flashsale/internal/redisurl"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// Protects what can be written from being read as something else.
func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]redisurl.Target{
		"redis://h":                         {Addrs: []string{"h:6379"}},
		"redis://h:1/2":                     {Addrs: []string{"h:1"}, DB: 2},
		"redis://[::1]:1":                   {Addrs: []string{"[::1]:1"}},
		"redis://:p@h:1":                    {Addrs: []string{"h:1"}, Password: "p"},
		"redis://u:p%40%2F%3F@h:1":          {Addrs: []string{"h:1"}, Username: "u", Password: "p@/?"},
		"redis://a:1?addr=b:2&addr=c":       {Addrs: []string{"a:1", "b:2", "c:6379"}},
		"redis://a:1?addr=b:2&master_set=m": {Addrs: []string{"a:1", "b:2"}, MasterSet: "m"},
		"unix:///run/redis.sock":            {Addrs: []string{"/run/redis.sock"}, Unix: true},
		"unix://u:p@/run/redis.sock?db=3":   {Addrs: []string{"/run/redis.sock"}, Unix: true, Username: "u", Password: "p", DB: 3},
		"redis://a:1?master_set=m&sentinel_user=s&sentinel_password=t": {
			Addrs: []string{"a:1"}, MasterSet: "m", SentinelUsername: "s", SentinelPassword: "t",
		},
	} {
		got, err := redisurl.Parse(text)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %+v %v, want %+v", text, got, err, want)
		}
	}
	if secure, err := redisurl.Parse("rediss://h"); err != nil || secure.TLS == nil {
		t.Errorf("rediss: %+v %v", secure, err)
	}
}

// Protects passwords: whatever is wrong with a URL, no part of it is shown, for nobody knows where
// in it the password is.
func TestParse_ShowsNothing(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "hunter", "hunter://hunter@hunter", "redis://", "redis://:1", "redis://u:hunter@h:hunter", "redis://u:hun/hunter@h:1",
		"redis://u:1/hunter@h:1", "redis://u:p%hunter@h", "redis://u:hunter@h:1/hunter", "redis://h:1/1/hunter", "redis://h:99999",
		"redis://u:p?hunter@h", "redis://u:p#hunter@h", "redis://h:1?hunter=1", "redis://h:1?db=hunter", "redis://h:1/-1",
		"redis://h:1?addr=hunter:hunter", "unix://hunter/run/x", "unix:///x?addr=hunter", "redis:hunter", "rediss://h?skip_verify=hunter",
		"redis://h:1?%hunter", "redis://h hunter",
	} {
		if got, err := redisurl.Parse(text); err == nil || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

// Protects every way to a Redis for both kinds of client: what one writes the other reads.
func TestClients(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := certificate(t, dir)
	_, port, err := net.SplitHostPort(stacktest.FreeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "redis.sock")
	one := stacktest.NewRedis(t, "--unixsocket", socket, "--user", "shop", "on", ">s3cr@t", "~fs:*", "&*", "+@all",
		"--tls-port", port, "--tls-cert-file", ca, "--tls-key-file", ca, "--tls-ca-cert-file", ca, "--tls-auth-clients", "no")
	plain := strings.TrimSuffix(strings.TrimPrefix(one.URL(), "redis://"), "/0")
	for _, u := range []string{
		"redis://" + plain,
		"redis://shop:s3cr%40t@" + plain,
		"unix://" + socket,
		"unix://shop:s3cr%40t@" + socket,
		"rediss://127.0.0.1:" + port + "?ca=" + url.QueryEscape(ca),
		"rediss://shop:s3cr%40t@127.0.0.1:" + port + "?skip_verify=true",
	} {
		exchange(t, u)
	}
	for _, u := range []string{
		"redis://shop:wrong@" + plain, "rediss://127.0.0.1:" + port, "redis://" + plain + "?addr=" + plain, "redis://127.0.0.1:1",
	} {
		target, err := redisurl.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		if client, err := target.Universal(options()); err == nil {
			t.Errorf("%s: %v, want a fault", u, client)
		} else if strings.Contains(err.Error(), "s3cr") || strings.Contains(err.Error(), "wrong") && !strings.Contains(err.Error(), "WRONGPASS") {
			t.Errorf("%s: %v", u, err)
		}
	}
}

// Protects a cluster of which one address is known, and a set that Sentinels watch.
func TestClients_Several(t *testing.T) {
	t.Parallel()
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		stack := stacktest.NewCluster(t)
		exchange(t, stack.Nodes[0].URL()) // one of them, all keys
		exchange(t, stack.Nodes[4].URL()) // a replica
		exchange(t, stack.RedisURL())
	})
	t.Run("sentinels", func(t *testing.T) {
		t.Parallel()
		exchange(t, stacktest.NewSentinels(t).RedisURL())
	})
}

func options() redisurl.Options {
	return redisurl.Options{
		Name: "test", PoolSize: 2, DialTimeout: 2 * time.Second, PoolTimeout: 2 * time.Second,
		ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second,
	}
}

// exchange writes keys of many slots with one client and reads them with the other.
func exchange(t *testing.T, text string) {
	t.Helper()
	target, err := redisurl.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	writer, err := rueidis.NewClient(target.Rueidis())
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	defer writer.Close()
	reader, err := target.Universal(options())
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	defer reader.Close()
	for n := range 20 {
		key := fmt.Sprintf("fs:%d", n)
		if err := writer.Do(t.Context(), writer.B().Set().Key(key).Value(key).Build()).Error(); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got, err := reader.Get(t.Context(), key).Result(); err != nil || got != key {
			t.Fatalf("%s: %q %v", text, got, err)
		}
	}
}

// certificate writes a file with a key and a certificate of 127.0.0.1 that vouches for itself.
func certificate(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "both.pem")
	text := slices.Concat(
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
