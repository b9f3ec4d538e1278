//! What the configuration names, found at the server: zone, pool, offering, template, networks.

use super::super::{Error, Isolation, Nic};
use super::api::Api;
use super::model::{DiskOffering, Network, Pool, Template};
use super::settings::Settings;
use std::time::Duration;
use tokio::time::Instant;

/// How long it is taken as it was found.
const FRESH: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) zone: String,
    pub(super) pool: Pool,
    /// The zone's other ones.
    pub(super) other_pools: Vec<Pool>,
    pub(super) disk_offering: DiskOffering,
    pub(super) template: Template,
}

/// The place, looked up anew every minute.
#[derive(Default)]
pub(super) struct Places(tokio::sync::Mutex<Option<(Instant, Place)>>);

impl Places {
    pub(super) async fn get(&self, api: &Api, settings: &Settings) -> Result<Place, Error> {
        let mut found = self.0.lock().await;
        if let Some((at, place)) = &*found
            && at.elapsed() < FRESH
        {
            return Ok(place.clone());
        }
        let place = Place::find(api, settings).await?;
        *found = Some((Instant::now(), place.clone()));
        Ok(place)
    }

    /// Anew, whatever was found before; what follows goes on with it.
    pub(super) async fn anew(&self, api: &Api, settings: &Settings) -> Result<Place, Error> {
        let place = Place::find(api, settings).await?;
        *self.0.lock().await = Some((Instant::now(), place.clone()));
        Ok(place)
    }
}

impl Place {
    /// Anew, whatever was found before.
    pub(super) async fn find(api: &Api, settings: &Settings) -> Result<Self, Error> {
        let zone = zone(api, settings).await?;
        let mut other_pools = api.pools(&zone).await?;
        let pool = pool(&other_pools, settings)?;
        other_pools.retain(|other| other.id != pool.id);
        let disk_offering = disk_offering(api, settings).await?;
        let template = template(api, settings, &zone).await?;
        Ok(Self { zone, pool, other_pools, disk_offering, template })
    }
}

/// Its id.
pub(super) async fn zone(api: &Api, settings: &Settings) -> Result<String, Error> {
    Ok(one(api.zones().await?, &settings.zone, "zone", |z| (&z.id, &z.name))?.id)
}

pub(super) fn pool(all: &[Pool], settings: &Settings) -> Result<Pool, Error> {
    one(all.to_vec(), &settings.pool, "primary storage", |p| (&p.id, &p.name))
}

pub(super) async fn disk_offering(api: &Api, settings: &Settings) -> Result<DiskOffering, Error> {
    one(api.disk_offerings().await?, &settings.disk_offering, "disk offering", |o| (&o.id, &o.name))
}

pub(super) async fn template(api: &Api, settings: &Settings, zone: &str) -> Result<Template, Error> {
    one(api.templates(zone).await?, &settings.template, "template", |t| (&t.id, &t.name))
}

/// The one of that name or id.
fn one<T>(
    all: Vec<T>,
    wanted: &str,
    what: &str,
    names: impl Fn(&T) -> (&String, &String),
) -> Result<T, Error> {
    let mut all = all;
    let by = |at: fn((&String, &String)) -> String| {
        all.iter().enumerate().filter(|(_, it)| at(names(it)) == wanted).map(|(at, _)| at).collect::<Vec<_>>()
    };
    let ids = by(|(id, _)| id.clone());
    match if ids.is_empty() { by(|(_, name)| name.clone()) } else { ids }.as_slice() {
        [only] => Ok(all.swap_remove(*only)),
        [] => {
            let there: Vec<_> = all.iter().map(|it| names(it).1.as_str()).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            Err(Error::Unfit {
                what: format!("CloudStack shows this account no {what} {wanted:?}, but {there}"),
            })
        }
        several => {
            let what = format!("CloudStack has {} of the {what} {wanted:?}: name its id", several.len());
            Err(Error::Unfit { what })
        }
    }
}

/// Which network each card goes to. Where there is no card, one goes to the isolated network: CloudStack makes no machine without.
pub(super) fn networks(
    all: &[Network],
    nics: &[Nic],
    isolated: Option<&str>,
) -> Result<Vec<(String, Option<String>)>, Error> {
    let unfit = |what: String| Err(Error::Unfit { what });
    let place = |wanted: &str, isolation: Isolation| {
        let wanted = match (wanted, isolated) {
            (NOWHERE, Some(isolated)) => isolated,
            (NOWHERE, None) => {
                return unfit(
                    "a card is mapped to no network: map it, or name an isolated_network in [compute]"
                        .to_owned(),
                );
            }
            (wanted, _) => wanted,
        };
        let network = one(all.to_vec(), wanted, "network", |n| (&n.id, &n.name))?;
        match (isolation, network.kind.as_str()) {
            (Isolation::Isolated, "Shared") => {
                unfit(format!("network {wanted:?} is shared with others: a test would meet them there"))
            }
            (Isolation::Isolated | Isolation::Connected, _) => Ok(network.id),
        }
    };
    let mut placed = Vec::new();
    for nic in nics {
        placed.push((place(&nic.network, nic.isolation)?, Some(nic.mac.to_string())));
    }
    if placed.is_empty() {
        placed.push((place(NOWHERE, Isolation::Isolated)?, None));
    }
    Ok(placed)
}

/// As plans call a network that nobody mapped.
const NOWHERE: &str = "isolated";
