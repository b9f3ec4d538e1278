//! Phases, states and actions ↔ the schema's enums.

use super::Invalid;
use crate::migration::{Action, Phase, State};
use proto::v1;

macro_rules! both_ways {
    ($domain:ident, $from:ident, $to:ident, $field:literal, { $($name:ident),* }) => {
        /// # Errors
        /// Unspecified, or a number of a newer peer.
        pub fn $from(value: i32) -> Result<$domain, Invalid> {
            match v1::$domain::try_from(value) {
                $(Ok(v1::$domain::$name) => Ok($domain::$name),)*
                Ok(v1::$domain::Unspecified) => Err(Invalid::missing($field)),
                Err(_) => Err(Invalid::new($field, format!("has no value {value}"))),
            }
        }

        /// As it goes out.
        pub fn $to(value: $domain) -> v1::$domain {
            match value { $($domain::$name => v1::$domain::$name,)* }
        }
    };
}

both_ways!(Action, action_from_wire, action_to_wire, "action", {
    Begin, Sync, Switch, Automatic, Pause, Hold, Release, Abort, Finalize, Rollback
});
both_ways!(Phase, phase_from_wire, phase_to_wire, "phase", { Begin, Sync, Switch, Finalize, Abort, Rollback });
both_ways!(State, state_from_wire, state_to_wire, "state", { Running, Paused, Failed, Successful, Aborted });
