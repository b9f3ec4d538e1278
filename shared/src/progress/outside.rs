//! The register for engines that are not of this process: they have jobs of their own, and only those.

use super::{Error, Owner, Register, Registered, Registration, Update};
use jiff::Timestamp;

/// The register as outside engines may use it. Whoever may reach it is one of them: they are not told apart.
#[derive(Clone, Copy, Debug)]
pub struct Outside<'r>(pub(super) &'r Register);

impl Outside<'_> {
    /// Makes a job known. One that ended begins anew.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an id or a registration that cannot be; [`Error::NotYours`]; [`Error::Full`].
    pub fn register(
        self,
        id: &str,
        registration: &Registration,
        now: Timestamp,
    ) -> Result<Registered, Error> {
        self.0.register_for(Owner::Outside, id, registration, now)
    }

    /// Takes an update. The end of a job that has ended may be said again, and changes nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] with what is wrong; [`Error::NotFound`]; [`Error::NotYours`]; [`Error::Ended`]. Nothing of it
    /// is taken then.
    pub fn update(self, id: &str, update: &Update, now: Timestamp) -> Result<(), Error> {
        self.0.update_for(Owner::Outside, id, update, now)
    }
}
