//! What a profile must not say.

use super::{Backend, Named, Settings};
use crate::ids::{DeviceKey, ProfileName};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of the JSON form, which is what is kept and sent.
const MOST_JSON: usize = 48 << 10;
/// Characters of a name, and of notes.
const LONGEST_NAME: usize = 256;
const LONGEST_NOTES: usize = 4096;

/// Why a profile cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("backend {0} cannot be used yet: this version makes nothing there; the only one is local")]
    Backend(Backend),
    #[error("{what} is {length} characters long, and at most {most} can be taken")]
    TooLong { what: String, length: usize, most: usize },
    #[error("{what} has a control character: write it without, and a name on one line")]
    ControlCharacter { what: String },
    #[error(
        "all of it together is {bytes} bytes as JSON, and at most {MOST_JSON} can be taken: shorten notes, or make two profiles"
    )]
    TooLarge { bytes: usize },
    #[error("a map of networks names no source network: say which one it is for")]
    NoSource,
    #[error("network {source_network:?} is mapped twice: give it one map")]
    NetworkTwice { source_network: String },
    #[error("NIC {key} is mapped twice: give it one map")]
    NicTwice { key: DeviceKey },
    #[error(
        "{test:?}, the test network of {of}, is live: it is {live:?}, the live network of {by}; a test beside the running VM would meet production there: name an isolated network for tests"
    )]
    TestIsLive { test: String, of: String, live: String, by: String },
}

impl Refused {
    /// Whether each value is wrong by itself, whatever else is said.
    pub fn is_of_itself(&self) -> bool {
        match self {
            Self::Backend(_)
            | Self::TestIsLive { .. }
            | Self::NetworkTwice { .. }
            | Self::NicTwice { .. } => false,
            Self::TooLong { .. } | Self::ControlCharacter { .. } | Self::TooLarge { .. } | Self::NoSource => {
                true
            }
        }
    }

    /// In the words of a test failover that is refused for it: `mapped` is, by the source's networks, what its request or
    /// its profile maps them to. There is no profile of its own that could be named.
    pub fn of_test(&self, mapped: &BTreeMap<String, String>) -> String {
        let Self::TestIsLive { test, live, by, .. } = self else { return self.to_string() };
        let from = mapped.iter().filter(|(_, to)| same(to, test)).map(|(from, _)| format!("{from:?}"));
        let from = from.collect::<Vec<_>>();
        let from = match from.is_empty() {
            true => "a network of the VM".to_owned(),
            false => format!("the source's network {}", from.join(", ")),
        };
        format!(
            "{from} is mapped to {test:?}, which is live: it is {live:?}, the live network of {by}; a test beside the running VM \
             would meet production there: map it to an isolated network"
        )
    }

    /// Upper snake case.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Backend(_) => "BACKEND_NOT_AVAILABLE",
            Self::TestIsLive { .. } => "TEST_NETWORK_IS_LIVE",
            Self::TooLong { .. }
            | Self::ControlCharacter { .. }
            | Self::TooLarge { .. }
            | Self::NoSource
            | Self::NetworkTwice { .. }
            | Self::NicTwice { .. } => "PROFILE_UNUSABLE",
        }
    }
}

/// One target network of a profile, and what it is there for.
struct Use<'a> {
    what: String,
    network: &'a str,
}

impl Settings {
    /// As it is kept. What can be held against it without knowing any other is, but for its test networks: that is
    /// [`check_beside`].
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn usable(self) -> Result<Self, Refused> {
        // As it was written: what is too long is so with its spaces.
        self.check_texts()?;
        let tidy = self.tidy();
        tidy.check()?;
        Ok(tidy)
    }

    fn check(&self) -> Result<(), Refused> {
        if self.backend != Backend::Local {
            return Err(Refused::Backend(self.backend));
        }
        let mut sources = BTreeSet::new();
        for map in &self.networks {
            if map.source.is_empty() {
                return Err(Refused::NoSource);
            }
            // As the source's own names: it tells "LAN" from "lan".
            if !sources.insert(&map.source) {
                return Err(Refused::NetworkTwice { source_network: map.source.clone() });
            }
        }
        let mut keys = BTreeSet::new();
        for map in &self.nics {
            if !keys.insert(&map.key) {
                return Err(Refused::NicTwice { key: map.key.clone() });
            }
        }
        Ok(())
    }

    fn check_texts(&self) -> Result<(), Refused> {
        let bytes = serde_json::to_string(self).map_or(usize::MAX, |json| json.len());
        if bytes > MOST_JSON {
            return Err(Refused::TooLarge { bytes });
        }
        let alone = [
            ("zone", &self.zone),
            ("compute_offering", &self.compute_offering),
            ("disk_offering", &self.disk_offering),
            ("storage_pool", &self.storage_pool),
        ];
        let alone = alone.iter().filter_map(|(what, text)| Some(((*what).to_owned(), text.as_deref()?)));
        let sources =
            self.networks.iter().map(|map| ("a source network's name".to_owned(), map.source.as_str()));
        let targets =
            self.live().chain(self.test()).map(|u| (format!("the network of {}", u.what), u.network));
        for (what, text) in alone.chain(sources).chain(targets) {
            let length = text.chars().count();
            if length > LONGEST_NAME {
                // The name may be what is too long.
                let what = what.chars().take(80).collect();
                return Err(Refused::TooLong { what, length, most: LONGEST_NAME });
            }
            if text.chars().any(char::is_control) {
                return Err(Refused::ControlCharacter { what });
            }
        }
        let notes = self.notes.as_deref().map_or(0, |notes| notes.chars().count());
        // Lines are what a note may have.
        let written = self.notes.as_deref().unwrap_or_default();
        if written.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            return Err(Refused::ControlCharacter { what: "notes".to_owned() });
        }
        match notes > LONGEST_NOTES {
            true => Err(Refused::TooLong { what: "notes".to_owned(), length: notes, most: LONGEST_NOTES }),
            false => Ok(()),
        }
    }

    fn live(&self) -> impl Iterator<Item = Use<'_>> {
        self.uses(|map| map.live.as_deref(), |map| map.live.as_deref())
    }

    fn test(&self) -> impl Iterator<Item = Use<'_>> {
        self.uses(|map| map.test.as_deref(), |map| map.test.as_deref())
    }

    fn uses(
        &self,
        of_network: fn(&super::NetworkMap) -> Option<&str>,
        of_nic: fn(&super::NicMap) -> Option<&str>,
    ) -> impl Iterator<Item = Use<'_>> {
        let networks = self.networks.iter().filter_map(move |map| {
            Some(Use { what: format!("network {:?}", map.source), network: of_network(map)? })
        });
        let nics = self
            .nics
            .iter()
            .filter_map(move |map| Some(Use { what: format!("NIC {}", map.key), network: of_nic(map)? }));
        networks.chain(nics)
    }

    /// Whether a network of the one could be a network of the other. A profile that names no zone may end in any.
    fn meets(&self, other: &Self) -> bool {
        let same_zone = match (&self.zone, &other.zone) {
            (Some(a), Some(b)) => same(a, b),
            (None, _) | (_, None) => true,
        };
        self.backend == other.backend && same_zone
    }
}

/// Refuses a profile whose test networks are live anywhere, or whose live ones are another's test networks. `others` is
/// every other profile there is; read and stored in one transaction, or two that are made at once both pass.
///
/// # Errors
/// [`Refused::TestIsLive`].
pub fn check_beside<'a>(mine: Named<'a>, others: impl IntoIterator<Item = Named<'a>>) -> Result<(), Refused> {
    apart(mine, mine)?;
    for other in others.into_iter().filter(|(name, settings)| *name != mine.0 && settings.meets(mine.1)) {
        apart(mine, other)?;
        apart(other, mine)?;
    }
    Ok(())
}

/// No test network of the one is live in the other.
fn apart((tester, tests): Named<'_>, (owner, lives): Named<'_>) -> Result<(), Refused> {
    let of = |what: &str, profile: &ProfileName| format!("{what} in profile {profile}");
    for test in tests.test() {
        if let Some(live) = lives.live().find(|live| same(live.network, test.network)) {
            return Err(Refused::TestIsLive {
                test: test.network.to_owned(),
                of: of(&test.what, tester),
                live: live.network.to_owned(),
                by: of(&live.what, owner),
            });
        }
    }
    Ok(())
}

/// Case is no difference that production should depend on.
fn same(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::super::{NetworkMap, NicMap};
    use super::*;
    use std::slice::from_ref;

    fn network(source: &str, live: &str, test: &str) -> NetworkMap {
        let said = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        NetworkMap { source: source.to_owned(), live: said(live), test: said(test) }
    }

    fn nic(key: &str, live: &str, test: &str) -> NicMap {
        let NetworkMap { live, test, .. } = network("", live, test);
        NicMap { key: key.parse().expect("a key"), live, test }
    }

    fn with(networks: &[NetworkMap], nics: &[NicMap]) -> Settings {
        Settings { networks: networks.to_vec(), nics: nics.to_vec(), ..Settings::new(Backend::Local) }
    }

    #[test]
    fn a_test_that_is_refused_names_the_source_network_and_the_profile() {
        let mine = with(&[network("PRODUCTION", "", "PRODUCTION")], &[]);
        let theirs = with(&[network("LAN", "production", "")], &[]);
        let refused = beside(&mine, &[("prod", theirs)]).expect_err("live");
        let mapped = [("VM Network", "PRODUCTION"), ("backup", "nowhere")];
        let mapped = mapped.map(|(from, to)| (from.to_owned(), to.to_owned())).into();
        let said = refused.of_test(&mapped);
        for word in ["\"VM Network\" is mapped to \"PRODUCTION\"", "network \"LAN\" in profile prod"] {
            assert!(said.contains(word), "{said}");
        }
        assert!(!said.contains("mine") && !said.contains("backup"), "{said}");
        assert!(refused.of_test(&std::collections::BTreeMap::new()).contains("a network of the VM"));
    }

    fn beside(mine: &Settings, others: &[(&str, Settings)]) -> Result<(), Refused> {
        let name = |text: &str| text.parse::<ProfileName>().expect("a name");
        let others: Vec<_> = others.iter().map(|(n, s)| (name(n), s.clone())).collect();
        check_beside((&name("mine"), mine), others.iter().map(|(n, s)| (n, s)))
    }

    #[test]
    fn a_test_network_is_live_nowhere() {
        let lan = network("LAN", "production", "isolated");
        beside(&with(from_ref(&lan), &[]), &[]).expect("apart");
        // In itself: by a network, by a NIC, in another case.
        for wrong in [
            with(&[network("LAN", "production", "production")], &[]),
            with(&[lan.clone(), network("DMZ", "", "Production ")], &[]),
            with(from_ref(&lan), &[nic("4000", "", "production")]),
            with(from_ref(&lan), &[nic("4000", "isolated", "")]),
        ] {
            let error = beside(&wrong, &[]).expect_err("a test would meet production");
            assert!(matches!(error, Refused::TestIsLive { .. }) && !error.is_of_itself(), "{error:?}");
        }
        // Beside others, whichever came first.
        let testing = with(&[network("LAN", "", "production")], &[]);
        let live = with(&[lan], &[]);
        let error = beside(&testing, &[("shop", live.clone())]).expect_err("live there").to_string();
        for named in ["\"production\"", "network \"LAN\" in profile mine", "network \"LAN\" in profile shop"]
        {
            assert!(error.contains(named), "{error}");
        }
        beside(&live, &[("lab", testing.clone())]).expect_err("a test network there");
        // Of another zone it is another network; of no zone it may be any. Its own former self does not count.
        let zoned = |zone: &str, s: &Settings| Settings { zone: Some(zone.to_owned()), ..s.clone() };
        beside(&zoned("a", &testing), &[("shop", zoned("b", &live))]).expect("apart");
        beside(&zoned("a", &testing), &[("shop", zoned("A", &live))]).expect_err("the same zone");
        beside(&zoned("a", &testing), &[("shop", live.clone())]).expect_err("any zone");
        beside(&testing, &[("shop", zoned("b", &live))]).expect_err("any zone");
        beside(&testing, &[("mine", live)]).expect("it takes its place");
    }

    #[test]
    fn what_says_nothing_twice_or_too_much_is_refused() {
        let long = "x".repeat(257);
        let base = || Settings::new(Backend::Local);
        base().usable().expect("nothing is needed");
        let full = network("LAN", "a", "b");
        for (wrong, says) in [
            (Settings::new(Backend::CloudStack), "cloudstack cannot be used yet"),
            (Settings::new(Backend::Linstor), "linstor cannot be used yet"),
            (with(&[full.clone(), full], &[]), "\"LAN\" is mapped twice"),
            (with(&[], &[nic("4000", "a", ""), nic("4000", "", "b")]), "NIC 4000 is mapped twice"),
            (with(&[network("", "a", "b")], &[]), "names no source"),
            (with(&[network("LAN", &long, "b")], &[]), "257"),
            (with(&[network(&long, "a", "b")], &[]), "257"),
            (with(&[network(" ", "a", "b")], &[]), "names no source"),
            (with(&[network("LAN", "a", "b"), network("LAN ", "a", "b")], &[]), "\"LAN\" is mapped twice"),
            (with(&[network("LAN", "a\n", "")], &[]), "control character"),
            (Settings { zone: Some(long.clone()), ..base() }, "zone is 257"),
            (Settings { notes: Some("a\u{1b}[31m".to_owned()), ..base() }, "notes has"),
            (Settings { notes: Some("x".repeat(4097)), ..base() }, "notes is 4097"),
            (
                with(
                    &(0..200).map(|n| network(&format!("{n}{}", &long[10..]), "a", "b")).collect::<Vec<_>>(),
                    &[],
                ),
                "as JSON",
            ),
        ] {
            let error = wrong.usable().expect_err(says).to_string();
            assert!(error.contains(says) && error.len() < 500, "{error}");
        }
        let blank =
            Settings { zone: Some("  ".to_owned()), ..with(&[network(" LAN ", " a", "")], &[]) }.tidy();
        assert_eq!((blank.zone, blank.networks), (None, vec![network("LAN", "a", "")]));
    }
}
