module bqwitness.dev/tests/foreign

go 1.25.0

// Not below v0.40.0: until then tlog.TileHashReader left some tiles unauthenticated.
require golang.org/x/mod v0.40.0
