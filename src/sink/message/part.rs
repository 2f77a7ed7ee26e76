//! How the parts of a message are declared.

/// Declares a part of a message: what `new` asks for, then what may be added one by one. Absent
/// fields are left out of the JSON. `Debug` names the type and shows nothing of what is in it,
/// since messages are personal data.
macro_rules! part {
    (
        $(#[$about:meta])*
        $name:ident {
            $( $(#[$required_about:meta])* $required:ident: $required_type:ty, )*
            ;
            $( $(#[$optional_about:meta])* $optional:ident: $optional_type:ty, )*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, serde::Serialize)]
        #[must_use]
        pub struct $name {
            $( $required: $required_type, )*
            $(
                #[serde(skip_serializing_if = "Option::is_none")]
                $optional: Option<$optional_type>,
            )*
        }

        $crate::sink::message::part::new! {
            $name { $( $required: $required_type, )* ; $( $optional, )* }
        }

        impl $name {
            $(
                $(#[$optional_about])*
                pub fn $optional(mut self, $optional: impl Into<$optional_type>) -> Self {
                    self.$optional = Some($optional.into());
                    self
                }
            )*
        }

        $crate::sink::message::part::opaque!($name);
    };
}

/// The constructor of a part, and `Default` where nothing is required.
macro_rules! new {
    ($name:ident { ; $( $optional:ident, )* }) => {
        impl $name {
            /// With every field absent.
            pub fn new() -> Self {
                Self { $( $optional: None, )* }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }
    };
    ($name:ident {
        $( $required:ident: $type:ty, )+ ; $( $optional:ident, )*
    }) => {
        impl $name {
            /// With what is required; what is not is absent.
            pub fn new($( $required: impl Into<$type>, )+) -> Self {
                Self { $( $required: $required.into(), )+ $( $optional: None, )* }
            }
        }
    };
}

/// `Debug` that shows nothing of the content.
macro_rules! opaque {
    ($( $name:ident ),+) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )+};
}

pub(super) use {new, opaque, part};
