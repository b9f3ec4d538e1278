//! Machines that are only remembered, and what a test makes of them: calls that fail, consoles that speak, a screen.

use crate::compute::{self, Compute, Console, Definition, Error, Machine, MachineName, State, Stop};
use crate::storage::VolumeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Machines {
    of: compute::Machines,
    fault: Mutex<Option<Fault>>,
    screen: Mutex<Option<Vec<u8>>>,
    open: Mutex<BTreeMap<u16, SocketAddr>>,
    agent: AtomicBool,
    no_cards: AtomicBool,
}

/// What the backend does not do while a test says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Starts,
    Removals,
    Consoles,
}

impl Machines {
    /// Names and disks of those that are there.
    pub(crate) fn inventory(&self) -> Vec<(String, Vec<String>, State)> {
        self.of.inventory()
    }

    /// All guests write this to their consoles.
    pub(crate) fn say(&self, bytes: &[u8]) {
        self.of.say(bytes);
    }

    /// What all screens show from now on.
    pub(crate) fn show(&self, png: &[u8]) {
        *self.screen.lock().unwrap_or_else(PoisonError::into_inner) = Some(png.to_vec());
    }

    /// From now on all guests take connections at that port; they are somebody's here.
    pub(crate) fn listen(&self, port: u16, at: SocketAddr) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(port, at);
    }

    /// From now on no machine has a network card.
    pub(crate) fn pull_cards(&self) {
        self.no_cards.store(true, Ordering::Relaxed);
    }

    /// From now on the agents in all guests answer.
    pub(crate) fn agent_answers(&self) {
        self.agent.store(true, Ordering::Relaxed);
    }

    /// From now on.
    pub(crate) fn fault(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    fn must(&self, fault: Fault) -> Result<(), Error> {
        match *self.fault.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(said) if said == fault => {
                Err(Error::Unusable { what: format!("{fault:?}, as the test says") })
            }
            _ => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl Compute for Machines {
    async fn prepare(&self) {}

    async fn check(&self, machine: &Definition) -> Result<(), Error> {
        self.of.check(machine).await
    }

    async fn define(&self, name: &MachineName, machine: &Definition) -> Result<(), Error> {
        self.of.define(name, machine).await
    }

    async fn attach(&self, name: &MachineName, position: usize, volume: &VolumeId) -> Result<(), Error> {
        self.of.attach(name, position, volume).await
    }

    async fn start(&self, name: &MachineName) -> Result<(), Error> {
        self.must(Fault::Starts)?;
        self.of.start(name).await
    }

    async fn stop(&self, name: &MachineName, how: Stop) -> Result<(), Error> {
        self.of.stop(name, how).await
    }

    async fn remove(&self, name: &MachineName) -> Result<(), Error> {
        self.must(Fault::Removals)?;
        self.of.remove(name).await
    }

    async fn find(&self, name: &MachineName) -> Result<Option<Machine>, Error> {
        let mut found = self.of.find(name).await?;
        if let Some(machine) = found.as_mut().filter(|_| self.no_cards.load(Ordering::Relaxed)) {
            machine.cards = 0;
        }
        Ok(found)
    }

    async fn list(&self) -> Result<Vec<Machine>, Error> {
        self.of.list().await
    }

    async fn console(&self, name: &MachineName, from: u64, most: usize) -> Result<Console, Error> {
        self.must(Fault::Consoles)?;
        self.of.console(name, from, most).await
    }

    async fn type_text(&self, name: &MachineName, text: &str) -> Result<(), Error> {
        self.of.type_text(name, text).await
    }

    async fn screenshot(&self, _: &MachineName) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.screen.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn reach(&self, _: &MachineName, port: u16) -> Result<Option<SocketAddr>, Error> {
        Ok(self.open.lock().unwrap_or_else(PoisonError::into_inner).get(&port).copied())
    }

    async fn guest_agent(&self, _: &MachineName) -> Result<bool, Error> {
        Ok(self.agent.load(Ordering::Relaxed))
    }
}
