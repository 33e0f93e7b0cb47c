// Package pgpool opens pools of connections to PostgreSQL whose every statement runs under settings
// of ours, whatever the database, the role or a pooler in between says.
//
// # Directly
//
// Settings are sent when a connection opens. Statements are prepared once a connection.
//
// # Behind a pooler
//
// A pooler such as PgBouncer gives each transaction another server connection, and refuses settings
// that it does not know. [Open] notices it by the process id that the connection was told, which is
// not that of the server's process. Then every statement runs in a transaction that begins with our
// settings, and nothing is prepared by name. Results are binary in both cases: no date or number is
// ever read from text.
//
// # Read-only
//
// Only connections that may write are opened, unless the URL has target_session_attrs; one on which
// a write was refused as read-only (25006) is closed. So a failover and the end of a maintenance are
// noticed at once.
package pgpool
