package main

import (
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"flashsale/engine"
	"flashsale/internal/redisurl"
	"flashsale/postgres"
	"flashsale/server"
)

// limits bound what a server takes.
type limits struct {
	ConnsMax          int           `env:"CONNS_MAX" default:"${conns_max}" help:"Connections at once; each needs an open file."`
	ConnsPerAddrMax   int           `env:"CONNS_PER_ADDR_MAX" default:"${conns_per_addr_max}" help:"Connections of one IPv4 address, or one /64 of IPv6. Those of trusted proxies do not count."`
	TrustedProxies    []network     `env:"TRUSTED_PROXIES" placeholder:"CIDR,…" help:"Networks or addresses of proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8."`
	ProxyProtocol     bool          `env:"PROXY_PROTOCOL" help:"Connections of trusted proxies begin with the header of the PROXY protocol, version 1 or 2."`
	HeaderBytesMax    int           `env:"HEADER_BYTES_MAX" default:"${header_bytes_max}" help:"Request line and headers together; each connection keeps a buffer of this size."`
	BodyBytesMax      int           `env:"BODY_BYTES_MAX" default:"${body_bytes_max}" help:"Body of a shopper's request."`
	ReadTimeout       time.Duration `env:"READ_TIMEOUT" default:"${read_timeout}" help:"Reading one request."`
	WriteTimeout      time.Duration `env:"WRITE_TIMEOUT" default:"${write_timeout}" help:"Writing one answer."`
	IdleTimeout       time.Duration `env:"IDLE_TIMEOUT" default:"${idle_timeout}" help:"Keep-alive: how long a connection stays without a request. Longer than the balancer's."`
	Drain             time.Duration `env:"DRAIN" default:"5s" help:"After SIGTERM: how long readiness is off before the address closes. Longer than the balancer takes to notice."`
	ShutdownTimeout   time.Duration `env:"SHUTDOWN_TIMEOUT" default:"${shutdown_timeout}" help:"After that: how long what is in flight may take."`
	WaitersMax        int           `env:"WAITERS_MAX" default:"${waiters_max}" help:"Long polls at once."`
	WaitersPerUserMax int           `env:"WAITERS_PER_USER_MAX" default:"${waiters_per_user_max}" help:"Long polls of one user."`
	RateAddrLogins    int           `env:"RATE_ADDR_LOGINS" placeholder:"N" help:"Log-ins and log-outs a second of one address. 0: 100; negative: no limit, here and below."`
	RateAddrOrders    int           `env:"RATE_ADDR_ORDERS" placeholder:"N" help:"Purchases a second of one address. 0: 10000, and none for this host."`
	RateAddrReads     int           `env:"RATE_ADDR_READS" placeholder:"N" help:"Reads of the catalogue a second of one address. 0: 10000, and none for this host."`
	RateAdminGuesses  int           `env:"RATE_ADMIN_GUESSES" placeholder:"N" help:"Wrong admin tokens a second of one address. 0: 50."`
	RateUserOrders    int           `env:"RATE_USER_ORDERS" placeholder:"N" help:"Purchases a second of one user. 0: 1000."`
	RateUserPays      int           `env:"RATE_USER_PAYS" placeholder:"N" help:"Payments, refunds and cancellations a second of one user. 0: 50."`
	RateUserReads     int           `env:"RATE_USER_READS" placeholder:"N" help:"Reads of orders and points a second of one user. 0: 1000."`
	RateUserUnknown   int           `env:"RATE_USER_UNKNOWN" placeholder:"N" help:"Purchases a second of one user of items that do not exist. 0: 25."`
	SocketsMax        int           `env:"SOCKETS_MAX" default:"${sockets_max}" help:"Websockets at once."`
	SocketsPerUserMax int           `env:"SOCKETS_PER_USER_MAX" default:"${sockets_per_user_max}" help:"Websockets of one user."`
	SocketPing        time.Duration `env:"SOCKET_PING" default:"${socket_ping}" help:"How often an idle websocket is pinged; silent for twice as long it is dropped."`
	SocketWrite       time.Duration `env:"SOCKET_WRITE" default:"${socket_write}" help:"How long a slow reader may hold up one message."`
	QueueMax          int           `env:"QUEUE_MAX" default:"${queue_max}" help:"Requests that wait for Redis to decide; more are answered overloaded."`
	ScriptTimeout     time.Duration `env:"SCRIPT_TIMEOUT" default:"${script_timeout}" help:"One call to Redis; after it the outcome is unknown."`
	SessionsMax       int           `env:"SESSIONS_MAX" default:"${sessions_max}" help:"Sessions kept in memory."`
	SessionKey        string        `env:"SESSION_KEY" help:"At least 16 characters: tokens must carry a checksum under it, and forged ones are refused without asking Redis."`
	StreamMax         int64         `env:"STREAM_MAX" default:"${stream_max}" help:"Orders of a partition that wait for the workers; more are answered overloaded."`
}

// databaseLimits bound what a process asks of PostgreSQL.
type databaseLimits struct {
	Conns            int           `name:"database-conns" env:"DATABASE_CONNS" default:"${database_conns}" help:"Connections to each database at most. Those who need one while all are busy wait for it."`
	ConnectTimeout   time.Duration `name:"database-connect-timeout" env:"DATABASE_CONNECT_TIMEOUT" default:"${database_connect_timeout}" help:"One attempt to connect."`
	LockTimeout      time.Duration `name:"database-lock-timeout" env:"DATABASE_LOCK_TIMEOUT" default:"${database_lock_timeout}" help:"How long a statement waits for a row that another holds."`
	StatementTimeout time.Duration `name:"database-statement-timeout" env:"DATABASE_STATEMENT_TIMEOUT" default:"${database_statement_timeout}" help:"One statement."`
}

// limitDefaults are what the help says: the rooms' own.
var limitDefaults = kong.Vars{
	"redis_form":                 redisurl.Form,
	"conns_max":                  strconv.Itoa(server.DefaultConnsMax),
	"conns_per_addr_max":         strconv.Itoa(server.DefaultConnsPerAddrMax),
	"header_bytes_max":           strconv.Itoa(server.DefaultHeaderBytesMax),
	"body_bytes_max":             strconv.Itoa(server.DefaultBodyBytesMax),
	"read_timeout":               server.DefaultReadTimeout.String(),
	"write_timeout":              server.DefaultWriteTimeout.String(),
	"idle_timeout":               "75s",
	"shutdown_timeout":           server.DefaultShutdownTimeout.String(),
	"waiters_max":                strconv.Itoa(server.DefaultWaitersMax),
	"waiters_per_user_max":       strconv.Itoa(server.DefaultWaitersPerUser),
	"sockets_max":                strconv.Itoa(server.DefaultSocketsMax),
	"sockets_per_user_max":       strconv.Itoa(server.DefaultSocketsPerUserMax),
	"socket_ping":                server.DefaultSocketPing.String(),
	"socket_write":               server.DefaultSocketWrite.String(),
	"queue_max":                  strconv.Itoa(engine.DefaultQueueMax),
	"script_timeout":             engine.DefaultScriptTimeout.String(),
	"sessions_max":               strconv.Itoa(engine.DefaultSessionsMax),
	"stream_max":                 strconv.Itoa(engine.DefaultStreamMax),
	"database_conns":             strconv.Itoa(postgres.MaxConnsDefault),
	"database_connect_timeout":   postgres.ConnectTimeoutDefault.String(),
	"database_lock_timeout":      postgres.LockTimeoutDefault.String(),
	"database_statement_timeout": postgres.StatementTimeoutDefault.String(),
}

// bound puts the limits on a server.
func (l limits) bound(config *server.Config) {
	config.ConnsMax, config.ConnsPerAddrMax = l.ConnsMax, l.ConnsPerAddrMax
	config.ProxyProtocol = l.ProxyProtocol
	for _, n := range l.TrustedProxies {
		config.TrustedProxies = append(config.TrustedProxies, netip.Prefix(n))
	}
	config.HeaderBytesMax, config.BodyBytesMax = l.HeaderBytesMax, l.BodyBytesMax
	config.ReadTimeout, config.WriteTimeout, config.IdleTimeout = l.ReadTimeout, l.WriteTimeout, l.IdleTimeout
	config.Drain, config.ShutdownTimeout = l.Drain, l.ShutdownTimeout
	config.WaitersMax, config.WaitersPerUserMax = l.WaitersMax, l.WaitersPerUserMax
	config.Rates = server.Rates{
		AddrLogins: l.RateAddrLogins, AddrOrders: l.RateAddrOrders, AddrReads: l.RateAddrReads,
		AdminGuess: l.RateAdminGuesses, UserOrders: l.RateUserOrders, UserPays: l.RateUserPays,
		UserReads: l.RateUserReads, UserUnknown: l.RateUserUnknown,
	}
	config.SocketsMax, config.SocketsPerUserMax = l.SocketsMax, l.SocketsPerUserMax
	config.SocketPing, config.SocketWrite = l.SocketPing, l.SocketWrite
}

// tune puts the limits on an engine.
func (l limits) tune(config *engine.Config) {
	config.QueueMax, config.ScriptTimeout = l.QueueMax, l.ScriptTimeout
	config.SessionKey = l.SessionKey
	config.SessionsMax, config.StreamMax = l.SessionsMax, l.StreamMax
}

// bound puts the limits on a ledger.
func (l databaseLimits) bound(config *postgres.Config) {
	config.MaxConns, config.ConnectTimeout = l.Conns, l.ConnectTimeout
	config.LockTimeout, config.StatementTimeout = l.LockTimeout, l.StatementTimeout
}

// network is a netip.Prefix that may be written as one address.
type network netip.Prefix

func (n *network) UnmarshalText(text []byte) error {
	if !strings.Contains(string(text), "/") {
		addr, err := netip.ParseAddr(string(text))
		*n = network(netip.PrefixFrom(addr, addr.BitLen()))
		return err
	}
	prefix, err := netip.ParsePrefix(string(text))
	*n = network(prefix.Masked())
	return err
}

// filesReserve are the files that a process needs beside the connections of shoppers: those to
// the stores and of operators.
const filesReserve = 256

// allowFiles lets the process open the files that so many connections need, as far as it may, and
// returns how many connections it may serve: for what the stores need there must always be room.
func allowFiles(connsMax int, logger *slog.Logger) int {
	var limit syscall.Rlimit
	need := uint64(connsMax) + filesReserve
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur >= need {
		return connsMax
	}
	raised := limit
	raised.Cur = min(need, limit.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err == nil {
		limit = raised
	}
	if limit.Cur >= need {
		return connsMax
	}
	conns := int(limit.Cur - min(filesReserve, limit.Cur/2))
	logger.Warn("fewer connections are served than CONNS_MAX: raise the limit of open files (ulimit -n, LimitNOFILE)",
		"open_files", limit.Cur, "open_files_needed", need, "conns_max", connsMax, "conns_served", conns)
	return conns
}
