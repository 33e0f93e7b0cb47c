package postgres

import (
	_ "embed"

	"flashsale"
	"flashsale/internal/pgschema"
)

// Upgrades of the schema. A change of schema.sql that an installation may already have the older form
// of gets its step here; a test compares what the steps lead to with what an empty database gets.
var (
	//go:embed upgrade/1.sql
	upgrade1 string

	upgrades = []pgschema.Upgrade{
		{From: version1, To: pgschema.Version(flashsale.Schema), SQL: upgrade1},
	}
)

// version1 is that of the first schema that was ever handed out.
const version1 = "0eff7056bf2e9d5976d44db01ab6086b72f115f2b7ac3d74094f99300e128078"
