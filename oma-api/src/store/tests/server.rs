//! What only a server has: sessions, locks, connections that are lost.

use super::*;

type Fixture = FixtureOn<MariaDb>;

async fn variable(pool: &sqlx::AnyPool, name: &'static str) -> String {
    let query = format!("SELECT CAST(@@{name} AS CHAR)");
    let row = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_one(pool).await.expect(name);
    row.get(0)
}

/// The test's server has other defaults in all of these.
#[tokio::test]
async fn sessions_do_not_depend_on_the_server() {
    let f = Fixture::new().await;
    for pool in [&f.store.write, &f.store.read] {
        assert_eq!(variable(pool, "tx_isolation").await, "REPEATABLE-READ");
        assert_eq!(variable(pool, "time_zone").await, "+00:00");
        assert!(variable(pool, "sql_mode").await.starts_with("STRICT_ALL_TABLES,"));
        assert_eq!(variable(pool, "collation_connection").await, "utf8mb4_bin");
    }
    let refused = sqlx::query("DELETE FROM events").execute(&f.store.read).await.expect_err("read only");
    assert!(refused.to_string().contains("READ ONLY"), "{refused}");
}
