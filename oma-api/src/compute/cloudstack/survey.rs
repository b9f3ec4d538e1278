//! What `oma-api --check-targets` asks of CloudStack: who we are there, and the rules of `check` for everything that the configuration
//! names, each on its own, so that one that is missing hides none of the others. Only asks.

use super::check::{of_disk_offering, of_hosts, of_pool, of_rights, of_template, offers_uefi};
use super::model::Limit;
use super::{CloudStackCompute, fit, place};
use crate::cloudstack::{self, EXPIRES, Reason};
use crate::targets::{Finding, secret};
use std::time::Duration;

/// Clocks that are further apart than that should be looked at.
const APART: Duration = Duration::from_secs(30);

/// What a machine takes of an account, as `listResourceLimits` calls it.
const TAKEN: [&str; 5] = ["user_vm", "volume", "cpu", "memory", "primary_storage"];

impl CloudStackCompute {
    /// See the module. Where the server or the keys fail, there is nothing more to say than that.
    pub async fn survey(&self) -> Vec<Finding> {
        let settings = &self.settings;
        let mut found = vec![
            secret("CloudStack API key file", &settings.api_key_file),
            secret("CloudStack secret key file", &settings.secret_key_file),
        ];
        let asked = self.api.client().capabilities().await;
        found.extend(of_access(&settings.endpoint, asked.as_ref().err(), self.api.client().clocks_apart()));
        let Ok(capabilities) = asked else { return found };
        found.push(of_rights(&capabilities));
        found.extend(self.in_zone().await);
        found.push(self.service_offering().await);
        found.push(limits(self.api.limits().await));
        found.push(Finding::doubtful(
            "CloudStack plug-in for LINSTOR",
            "not known: no command tells whether it takes a resource that is there (4.19.2 and newer) or fails with \"exists\"; \
             the first test failover does",
        ));
        found
    }

    /// All that lies in the zone.
    async fn in_zone(&self) -> Vec<Finding> {
        let (api, settings) = (&self.api, &self.settings);
        let zone = match place::zone(api, settings).await {
            Ok(zone) => zone,
            Err(error) => return vec![Finding::unasked("CloudStack zone", &error)],
        };
        let mut found = vec![Finding::well("CloudStack zone", format!("{} is {zone}", settings.zone))];
        let pools = api.pools(&zone).await;
        let pool = pools
            .as_deref()
            .map_err(unasked)
            .and_then(|all| place::pool(all, settings).map_err(|e| chain(&e)));
        match &pool {
            Ok(pool) => found.extend(of_pool(pool, self.storage.group().as_str())),
            Err(why) => found.push(Finding::missing("CloudStack primary storage", why)),
        }
        match (place::disk_offering(api, settings).await, pool) {
            (Ok(offering), Ok(pool)) => {
                found.extend(of_disk_offering(&offering, &pool, &pools.unwrap_or_default()));
            }
            // What matters of it is what the pool has.
            (Ok(_), Err(_)) => {}
            (Err(error), _) => found.push(Finding::unasked("CloudStack disk offering", &error)),
        }
        found.push(match place::template(api, settings, &zone).await {
            Ok(template) => of_template(&template),
            Err(error) => Finding::unasked("CloudStack template", &error),
        });
        found.push(self.isolated_network(&zone).await);
        match api.hosts(&zone).await {
            Ok(hosts) => {
                found.push(of_hosts(&settings.zone, &hosts));
                found.push(match offers_uefi(&hosts) {
                    true => Finding::well("CloudStack UEFI", "a host offers it"),
                    false => Finding::doubtful(
                        "CloudStack UEFI",
                        "no host offers it, so that no machine that boots by it can be made: set host.uefi.enable in \
                         /etc/cloudstack/agent/uefi.properties of a host",
                    ),
                });
            }
            Err(error) => found.push(Finding::unasked("CloudStack hosts", &error)),
        }
        found
    }

    async fn isolated_network(&self, zone: &str) -> Finding {
        const WHAT: &str = "CloudStack isolated network";
        let Some(named) = self.settings.isolated_network.as_deref() else {
            let why = "compute.isolated_network names none: a machine without a card, and a card that nobody maps, are refused";
            return Finding::doubtful(WHAT, why);
        };
        let all = match self.api.networks(zone).await {
            Ok(all) => all,
            Err(error) => return Finding::unasked(WHAT, &error),
        };
        match place::networks(&all, &[], Some(named)) {
            Ok(_) => Finding::well(WHAT, format!("{named} is there, and not shared")),
            Err(error) => Finding::unasked(WHAT, &error),
        }
    }

    async fn service_offering(&self) -> Finding {
        const WHAT: &str = "CloudStack service offering";
        let all = match self.api.offerings().await {
            Ok(all) => all,
            Err(error) => return Finding::unasked(WHAT, &error),
        };
        match &self.settings.service_offering {
            Some(named) => {
                let against = fit::named(&all, named).err();
                let against =
                    against.map(|why| format!("{why}: name another one, or none, for the one that fits"));
                Finding::of(WHAT, format!("{named} is there, for every machine"), against)
            }
            None => match fit::usable(&all).find(|offering| offering.iscustomized) {
                Some(any) => Finding::well(WHAT, format!("the one that fits; {} takes any size", any.name)),
                None if fit::usable(&all).next().is_none() => {
                    Finding::missing(WHAT, "there is none: make one of any size (\"custom\")")
                }
                None => Finding::doubtful(
                    WHAT,
                    "there is none of any size: machines get the smallest that is large enough, and some may find none",
                ),
            },
        }
    }
}

/// Server, keys and clock: it does not say which of the last two it refuses, but its own clock does.
fn of_access(endpoint: &str, error: Option<&cloudstack::Error>, apart: Option<Duration>) -> Vec<Finding> {
    const SERVER: &str = "CloudStack endpoint";
    const KEYS: &str = "CloudStack keys";
    const CLOCK: &str = "CloudStack clock";
    let refused = error.and_then(cloudstack::Error::refusal).map(cloudstack::Refusal::reason);
    let is_refused = refused == Some(Reason::Credentials);
    let is_clock = matches!(error, Some(cloudstack::Error::Clock { .. }));
    if let Some(error) = error.filter(|_| !is_refused && !is_clock) {
        return vec![Finding::unasked(SERVER, error)];
    }
    let how = if endpoint.starts_with("https") { "its certificate accepted" } else { "in clear" };
    let mut found = vec![Finding::well(SERVER, format!("{endpoint} answers, {how}"))];
    match error {
        None => found.push(Finding::well(KEYS, "accepted")),
        Some(error) if is_refused => {
            let why = format!("{}: look at both key files, and at the account in CloudStack", chain(error));
            found.push(Finding::missing(KEYS, why));
        }
        Some(_) => found.push(Finding::doubtful(KEYS, "not known before the clocks agree")),
    }
    found.push(match apart {
        Some(apart) if apart < APART => Finding::well(CLOCK, format!("{} s apart", apart.as_secs())),
        Some(apart) => {
            let (apart, most) = (apart.as_secs(), EXPIRES.as_secs());
            let why = format!(
                "{apart} s apart, and requests expire after {most} s: set the time here or there (NTP)"
            );
            if is_clock { Finding::missing(CLOCK, why) } else { Finding::doubtful(CLOCK, why) }
        }
        None => Finding::doubtful(CLOCK, "not known: the server does not say what time it has"),
    });
    found
}

/// What is used of them is known when a machine is made.
fn limits(asked: Result<Vec<Limit>, cloudstack::Error>) -> Finding {
    const WHAT: &str = "CloudStack limits of the account";
    let all = match asked {
        Ok(all) => all,
        Err(error) => return Finding::unasked(WHAT, &error),
    };
    let limited: Vec<_> =
        all.iter().filter(|limit| limit.max >= 0 && TAKEN.contains(&limit.of.as_str())).collect();
    let shown: Vec<_> = limited.iter().map(|limit| format!("{} {}", limit.of, limit.max)).collect();
    let shown = shown.join(", ");
    match () {
        () if limited.is_empty() => {
            Finding::well(WHAT, "none of machines, volumes, processors, memory, primary storage")
        }
        () if limited.iter().any(|limit| limit.max == 0) => {
            Finding::missing(WHAT, format!("{shown}: raise what is 0 (updateResourceLimit)"))
        }
        () => Finding::doubtful(WHAT, format!("{shown}: what there is already counts")),
    }
}

fn unasked(error: &cloudstack::Error) -> String {
    chain(error)
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    shared::error::chain(error)
}
