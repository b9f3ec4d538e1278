//! Snapshots of several resources at one moment, what is made of them, and the way back to one.

use super::cluster::{Cluster, Device, marks};
use super::error::Error;
use super::fault::Fault;
use super::model::{Made, Snapshot};
use super::name::Name;
use crate::outbound::Outcome;

impl Cluster {
    /// All of them at one moment, whole or not at all. The same that is there already is success.
    ///
    /// # Errors
    /// [`Fault::HalfSnapshot`] after a set that was not whole was removed.
    pub async fn snapshot(&self, names: &[Name], snapshot: &Name) -> Result<(), Fault> {
        let _held = self.locks.hold(names).await;
        self.all_whole(names).await?;
        let mut there = Vec::new();
        for name in names {
            there.push((name, self.client.snapshots(name).await?));
        }
        if there.iter().all(|(_, all)| has_whole(all, snapshot)) {
            return Ok(());
        }
        // What a crash or a failed tool left keeps the name.
        for (name, all) in &there {
            self.discard_seen(name, snapshot, all).await?;
        }
        let taken = self.client.take_snapshots(names, snapshot).await;
        match (self.taken(names, snapshot).await, taken) {
            (Ok(None), _) => Ok(()),
            // It is gone since: what became of the call is as unknown as it was.
            (Err(_), Err(error)) if error.outcome() == Outcome::Unknown => Err(error.into()),
            (Err(fault), _) => Err(fault),
            // It may be in the making still: the next attempt looks, and begins anew.
            (Ok(Some(_)), Err(error @ (Error::NoAnswer { .. } | Error::Strange { .. }))) => Err(error.into()),
            (Ok(Some(_)), Err(error)) if error.outcome() == Outcome::NotDone => Err(error.into()),
            (Ok(Some(name)), _) => {
                self.discard(names, snapshot).await?;
                Err(Fault::HalfSnapshot { name, snapshot: snapshot.clone() })
            }
        }
    }

    /// The first of them that has no whole snapshot of that name.
    async fn taken(&self, names: &[Name], snapshot: &Name) -> Result<Option<Name>, Fault> {
        for name in names {
            if !has_whole(&self.client.snapshots(name).await?, snapshot) {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    }

    async fn discard(&self, names: &[Name], snapshot: &Name) -> Result<(), Fault> {
        for name in names {
            self.discard_one(name, snapshot).await?;
        }
        Ok(())
    }

    async fn discard_one(&self, name: &Name, snapshot: &Name) -> Result<(), Fault> {
        self.discard_seen(name, snapshot, &self.client.snapshots(name).await?).await
    }

    /// Of all that the resource has. Not while a node that holds a part of it is off: LINSTOR says yes then, forgets it at once, and its
    /// blocks stay taken.
    pub(super) async fn discard_seen(
        &self,
        name: &Name,
        snapshot: &Name,
        all: &[Snapshot],
    ) -> Result<(), Fault> {
        let Some(one) = all.iter().find(|s| s.name.eq_ignore_ascii_case(snapshot.as_str())) else {
            return Ok(());
        };
        let holds = |node: &super::Node| one.nodes.iter().any(|of| of.eq_ignore_ascii_case(&node.name));
        // A node that LINSTOR has forgotten holds nothing any more that could be freed.
        if let Some(off) =
            self.client.nodes().await?.into_iter().find(|node| holds(node) && !node.is_online())
        {
            return Err(Fault::NodeOff { name: name.clone(), snapshot: snapshot.clone(), node: off.name });
        }
        Ok(self.client.delete_snapshot(name, snapshot).await?)
    }

    /// Removes a snapshot; nothing to remove is success.
    ///
    /// # Errors
    /// [`Fault::BeingReset`]: it may be what the resource is being made of again, and both would be gone.
    pub async fn delete_snapshot(&self, name: &Name, snapshot: &Name) -> Result<(), Fault> {
        let _held = self.locks.hold([name]).await;
        match self.ours(name).await? {
            None => Ok(()),
            Some(_) if self.is_being_reset(name).await? => Err(Fault::BeingReset { name: name.clone() }),
            Some(_) => self.discard_one(name, snapshot).await,
        }
    }

    /// A new resource with a snapshot's content. What was half-made is thrown away first.
    ///
    /// # Errors
    /// [`Fault::Exists`]: it is there, whole, and may have been written.
    pub async fn restore(
        &self,
        from: &Name,
        snapshot: &Name,
        to: &Name,
        group: &Name,
    ) -> Result<Device, Fault> {
        let _held = self.locks.hold([from, to]).await;
        if self.taken(std::slice::from_ref(from), snapshot).await?.is_some() {
            return Err(Fault::NoSnapshot { name: from.clone(), snapshot: snapshot.clone() });
        }
        let filter = self.filter(group).await?;
        match self.ours(to).await? {
            Some(_) if self.find(to).await?.is_some() => return Err(Fault::Exists { name: to.clone() }),
            Some(_) => self.discard_all(to).await?,
            None => {}
        }
        self.client.define(to, group, &filter.layer_stack, &marks(to)).await?;
        self.client.restore_volume(from, snapshot, to).await?;
        self.client.restore(from, snapshot, to).await?;
        let made = self.ours(to).await?.ok_or_else(|| Fault::NoResource { name: to.clone() })?;
        let (device, _) = self.open_here(to, Some(&made)).await?;
        self.say_whole(to, made.uuid).await?;
        self.forget_reset(to).await?;
        Ok(device)
    }

    /// Its content as a snapshot of it has it. LINSTOR does not do so in place: it takes a snapshot, deletes the resource, restores, and
    /// a failure in between leaves something that any other change would empty. So a note outside of it says first that it is none to
    /// trust, and after a failure nothing is done but the same again.
    ///
    /// # Errors
    /// [`Fault`]; to be repeated until it succeeds, or the resource is to be deleted.
    pub async fn reset(&self, name: &Name, to: &Name) -> Result<Device, Fault> {
        let _held = self.locks.hold([name]).await;
        self.ours(name).await?.ok_or_else(|| Fault::NoResource { name: name.clone() })?;
        if self.taken(std::slice::from_ref(name), to).await?.is_some() {
            return Err(Fault::NoSnapshot { name: name.clone(), snapshot: to.clone() });
        }
        self.note_reset(name).await?;
        self.client.rollback(name, to).await?;
        let made = self.ours(name).await?.ok_or_else(|| Fault::NoResource { name: name.clone() })?;
        let (device, _) = self.open_here(name, Some(&made)).await?;
        self.say_whole(name, made.uuid).await?;
        self.forget_reset(name).await?;
        Ok(device)
    }
}

fn has_whole(all: &[Snapshot], snapshot: &Name) -> bool {
    all.iter().any(|s| s.name.eq_ignore_ascii_case(snapshot.as_str()) && s.made() == Made::Whole)
}
