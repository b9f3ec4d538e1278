//! Lists of words with one spelling: the same on the wire, in the database and for people.
//!
//! For lists that are closed: what is not on one is refused. A list that a newer peer may make longer is
//! `vm::words`' kind, which knows `Unknown`.

/// A word that is not one of the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no {what}: expected one of {expected}")]
pub struct UnknownWord {
    pub what: &'static str,
    pub value: String,
    /// All of the list, between spaces.
    pub expected: &'static str,
}

/// An enum of plain variants, its `ALL`, `as_str`, `Display` and `FromStr`:
/// `words!(/** … */ Name, "what it is", { /** … */ Variant = "word", … });`
#[macro_export]
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every one, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The one spelling.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::words::UnknownWord;
            fn from_str(s: &str) -> Result<Self, $crate::words::UnknownWord> {
                match s {
                    $($word => Ok(Self::$variant),)*
                    _ => Err($crate::words::UnknownWord {
                        what: $what,
                        value: s.to_owned(),
                        expected: concat!($($word, " ",)*).trim_ascii_end(),
                    }),
                }
            }
        }
    };
}
