// Package stacktest gives tests the real servers: a Redis and a PostgreSQL that all tests of
// a package share, each test with a database of its own, and private ones for tests that
// break things.
//
//	func TestMain(m *testing.M) { stacktest.Main(m) }
//
//	func TestReserve(t *testing.T) {
//		t.Parallel()
//		client := connect(t, stacktest.Redis(t))
//	}
//
// A server that cannot be started fails the test, with the line that installs it: a test that
// silently skips protects nothing.
//
// Tests on the shared Redis are apart in keys only: pub/sub channels, SCRIPT FLUSH, CONFIG SET
// and CLIENT KILL reach the whole server. A test that needs those for itself takes [NewRedis].
package stacktest
