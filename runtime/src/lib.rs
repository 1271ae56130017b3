//! What every process needs: admin server, drain, readiness, telemetry, TLS, HTTP client, version.
