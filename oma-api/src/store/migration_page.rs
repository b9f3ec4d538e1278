//! Pages of `migrations`, newest first.

use super::error::Doing as _;
use super::migration::{columns, migration};
use super::row::sql;
use super::{Error, Migration, Store, Which};
use shared::ids::{AgentId, MigrationId};
use shared::migration::{Phase, State};

/// Which rows, and how many.
#[derive(Clone, Debug)]
pub struct PageOf {
    pub which: Which,
    pub phase: Option<Phase>,
    pub state: Option<State>,
    pub agent: Option<AgentId>,
    /// In the VM's name, its uuid or the migration's id; upper and lower case are the same.
    pub text: Option<String>,
    /// Older than this one.
    pub before: Option<MigrationId>,
    pub limit: u32,
}

impl Store {
    /// Ids sort by the time they were made, so a page goes on from an id (keyset): rows that come or go meanwhile are
    /// neither doubled nor left out.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn migration_page(&self, of: &PageOf) -> Result<Vec<Migration>, Error> {
        let text = of.text.as_ref().map(|text| format!("%{}%", escaped(&text.to_lowercase())));
        let (text, before) = (text.as_deref(), of.before.as_ref().map(MigrationId::as_str));
        let (phase, state) = (of.phase.map(Phase::as_str), of.state.map(State::as_str));
        let agent = of.agent.as_ref().map(AgentId::as_str);
        self.reading(|| async {
            sql(concat!(
                "SELECT ",
                columns!(),
                " FROM migrations WHERE (? = 1 OR unfinished_vm IS NOT NULL) AND (? IS NULL OR phase = ?) \
                 AND (? IS NULL OR state = ?) AND (? IS NULL OR agent_id = ?) AND (? IS NULL OR id < ?) \
                 AND (? IS NULL OR LOWER(vm_name) LIKE ? ESCAPE '!' OR vm_uuid LIKE ? ESCAPE '!' OR id LIKE ? ESCAPE '!') \
                 ORDER BY id DESC LIMIT ?"
            ))
            .bind(i64::from(of.which == Which::All))
            .bind(phase)
            .bind(phase)
            .bind(state)
            .bind(state)
            .bind(agent)
            .bind(agent)
            .bind(before)
            .bind(before)
            .bind(text)
            .bind(text)
            .bind(text)
            .bind(text)
            .bind(i64::from(of.limit))
            .fetch_all(&self.read)
            .await
            .doing("listing migrations")?
            .iter()
            .map(migration)
            .collect()
        })
        .await
    }

    /// Those that are called so: by the VM's name or uuid, or by their own id. Newest first.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn migration_named(&self, name: &str, which: Which) -> Result<Vec<Migration>, Error> {
        self.reading(|| async {
            sql(concat!(
                "SELECT ",
                columns!(),
                " FROM migrations WHERE (? = 1 OR unfinished_vm IS NOT NULL) AND (id = ? OR vm_uuid = ? OR vm_name = ?) \
                 ORDER BY id DESC"
            ))
            .bind(i64::from(which == Which::All))
            .bind(name)
            .bind(name)
            .bind(name)
            .fetch_all(&self.read)
            .await
            .doing("looking for a migration")?
            .iter()
            .map(migration)
            .collect()
        })
        .await
    }
}

/// LIKE's own signs, meant as themselves.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut all, c| {
        if matches!(c, '%' | '_' | '!') {
            all.push('!');
        }
        all.push(c);
        all
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn signs_of_like_are_meant_as_themselves() {
        assert_eq!(super::escaped("50%_a!b"), "50!%!_a!!b");
    }
}
