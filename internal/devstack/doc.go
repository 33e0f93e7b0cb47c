// Package devstack runs a private Redis and a private PostgreSQL as child processes, for
// `flashsale demo` and for every test. It needs no service, no container and no settings on
// the machine: only the two programs, and it says how to install them when they are missing.
//
//	stack, err := devstack.Start(ctx, devstack.Config{Redis: true, Postgres: true})
//	if err != nil {
//		return err
//	}
//	defer stack.Stop()
//	use(stack.RedisURL(), stack.DatabaseURL())
//
// The Redis can be a cluster ([Config.Cluster]) or one that Sentinels watch ([Config.Sentinels]).
//
// # What it promises
//
//   - Private: servers listen on a free port of 127.0.0.1 only, with data of their own. Any
//     number of stacks run side by side.
//   - No orphans: a server dies with the process that started it, also when that process is
//     killed with SIGKILL (see process.go).
//   - One owner: a data folder is locked for as long as any server process works in it, so
//     two stacks never share one, and what an earlier stack left behind is known to be stale.
//   - Lasting with [Config.Dir]: the data survives restarts and crashes, as safe as the
//     servers' own settings make it. Without Dir the data is temporary, PostgreSQL does
//     not wait for the disk, and Stop removes everything. In both, a transaction that was
//     committed survives [Server.Kill].
//
// # What it does not promise
//
// Anything with a port of 127.0.0.1 in reach may log in: this is no way to run a production
// server. It runs on Linux only: the promise about orphans rests on its parent-death signal.
//
// # Users and folders
//
// PostgreSQL refuses to run as root. When we are root it runs as the user postgres or nobody,
// which must be able to reach the data folder. A folder that is closed to that user (below
// /root, say) is refused with a message that names the closed parent: its modes are never
// changed. [DefaultDir] is a folder that always works. Temporary data falls back from
// $TMPDIR to /tmp and /var/tmp.
package devstack
