//! Pages of migrations.

use super::{App, Error, MigrationView};
use crate::store::{PageOf, Which};
use shared::ids::{AgentId, MigrationId};

/// Migrations of a page when nobody says how many, and most of them.
const USUAL: u32 = 50;
const MOST: u32 = 500;

/// Bytes of a text that is looked for.
const LONGEST: usize = 200;

/// What a list may be asked for, as it was sent; what is empty was left out.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub all: bool,
    pub phase: String,
    pub state: String,
    pub agent: String,
    pub text: String,
    pub limit: Option<u32>,
    pub token: String,
    /// Runs of each that are wanted.
    pub history: u32,
}

/// Some migrations, newest first.
#[derive(Debug)]
pub struct MigrationPage {
    pub migrations: Vec<MigrationView>,
    /// Where the next page begins.
    pub next: Option<MigrationId>,
}

impl Listing {
    fn parse(&self) -> Result<PageOf, Error> {
        fn wrong<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Error {
            move |why| Error::Argument { what, why: why.to_string() }
        }
        let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let limit = match self.limit {
            None => USUAL,
            Some(limit @ 1..=MOST) => limit,
            Some(_) => return Err(wrong("limit (page_size)")(format!("must be 1 to {MOST}"))),
        };
        if self.text.len() > LONGEST {
            return Err(wrong("text")(format!("must be at most {LONGEST} bytes")));
        }
        if self.text.chars().any(char::is_control) {
            return Err(wrong("text")("has a control character"));
        }
        Ok(PageOf {
            which: if self.all { Which::All } else { Which::Unfinished },
            phase: said(&self.phase).map(|p| p.parse()).transpose().map_err(wrong("phase"))?,
            state: said(&self.state).map(|s| s.parse()).transpose().map_err(wrong("state"))?,
            agent: said(&self.agent).map(AgentId::parse).transpose().map_err(wrong("agent"))?,
            text: said(&self.text),
            before: said(&self.token)
                .map(MigrationId::parse)
                .transpose()
                .map_err(|_| wrong("page token")("must be the next_page_token of another answer"))?,
            limit,
        })
    }
}

impl App {
    /// # Errors
    /// [`Error::Argument`], [`Error::Store`].
    pub async fn migration_list(&self, listing: &Listing) -> Result<MigrationPage, Error> {
        let mut of = listing.parse()?;
        let limit = of.limit;
        // One more, to know whether there is a next page.
        of.limit = limit.saturating_add(1);
        let mut rows = self.store.migration_page(&of).await?;
        let more = rows.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        if more {
            rows.pop();
        }
        let next = rows.last().filter(|_| more).map(|m| m.id.clone());
        let ids: Vec<_> = rows.into_iter().map(|row| row.id).collect();
        let mut migrations = Vec::with_capacity(ids.len());
        for view in self.migration_views(&ids).await? {
            migrations.push(self.with_history(view, listing.history).await?);
        }
        Ok(MigrationPage { migrations, next })
    }
}
