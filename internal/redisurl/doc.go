// Package redisurl reads REDIS_URL, for all clients and commands alike:
//
//	redis://[user:password@]host:port[/db]     one Redis, or any node of a cluster
//	rediss://…                                 the same with TLS
//	unix://[user:password@]/path[?db=n]        a socket of this host
//	…?addr=host:port                           more nodes of a cluster, or more Sentinels
//	…?master_set=name                          the addresses are those of Sentinels
//
// Sentinels that want a login have it in sentinel_user and sentinel_password. With TLS, ca, cert
// and key are files, and skip_verify=true trusts whoever answers. Special characters of a password
// are written as %XX.
//
// Nothing that is returned or logged holds any part of a URL that could not be read: it might be
// of the password.
package redisurl
