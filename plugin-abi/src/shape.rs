//! What the declarations are described by: the macros that declare records, tables and codes, and keep a description of
//! each, from which the header is made and tables are checked.

/// A function in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The version that brought it.
    pub since: u32,
    /// Whether that version, and every later one, demands it.
    pub required: bool,
    /// Where in the table it stands, in bytes.
    pub offset: usize,
}

/// A member of a record, or a function in a table, for the header.
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// Where it stands, in bytes.
    pub offset: usize,
    /// What it means, line by line.
    pub docs: &'static [&'static str],
    /// How C declares it.
    pub declaration: fn() -> String,
}

/// A Rust type as C writes it.
pub trait CType {
    /// The declaration of `name` as this type.
    fn declare(name: &str) -> String;
}

macro_rules! plain {
    ($($rust:ty = $c:literal,)+) => {
        $(impl CType for $rust {
            fn declare(name: &str) -> String {
                join($c, name)
            }
        })+
    };
}

/// `int32_t` and `x` with a space between; without a name, the type alone.
pub(crate) fn join(c: &str, name: &str) -> String {
    if name.is_empty() { c.to_owned() } else { format!("{c} {name}") }
}

plain! {
    i32 = "int32_t", i64 = "int64_t", u8 = "uint8_t", u32 = "uint32_t", u64 = "uint64_t", usize = "size_t",
    core::ffi::c_char = "char", core::ffi::c_void = "void", () = "void",
}

impl<T: CType> CType for *mut T {
    fn declare(name: &str) -> String {
        T::declare(&format!("*{name}"))
    }
}

impl<T: CType> CType for *const T {
    fn declare(name: &str) -> String {
        format!("const {}", T::declare(&format!("*{name}")))
    }
}

impl<T: CType, const N: usize> CType for [T; N] {
    fn declare(name: &str) -> String {
        T::declare(&format!("{name}[{N}]"))
    }
}

impl<A: CType> CType for Option<unsafe extern "C" fn(A)> {
    fn declare(name: &str) -> String {
        format!("void (*{name})({})", A::declare(""))
    }
}

/// Declares a record: a struct of plain members.
macro_rules! records {
    ($($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $mdoc:literal])* $member:ident: $type:ty,)+ })+) => {
        $(
            $(#[doc = $doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug)]
            pub struct $name { $($(#[doc = $mdoc])* pub $member: $type,)+ }

            impl $crate::CType for $name {
                fn declare(name: &str) -> String {
                    $crate::shape::join(stringify!($name), name)
                }
            }

            impl $name {
                /// What the header says of it.
                pub const DOCS: &'static [&'static str] = &[$($doc),*];
                /// Its members, in order.
                pub const MEMBERS: &'static [$crate::Member] = &[$($crate::Member {
                    name: stringify!($member),
                    offset: core::mem::offset_of!($name, $member),
                    docs: &[$($mdoc),*],
                    declaration: || <$type as $crate::CType>::declare(stringify!($member)),
                }),+];
            }
        )+
    };
}

/// Declares a table: its size, then functions, each with the version that brought it and whether it must be there.
macro_rules! tables {
    (@required required) => { true };
    (@required optional) => { false };
    (@returns) => { "void".to_owned() };
    (@returns $ret:ty) => { <$ret as $crate::CType>::declare("") };
    ($($(#[doc = $doc:literal])* $name:ident {
        $($(#[doc = $fdoc:literal])* $since:ident $need:ident
          fn $function:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)?;)+
    })+) => {
        $(
            $(#[doc = $doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug)]
            pub struct $name {
                /// How large the table is, in bytes.
                pub size: usize,
                $($(#[doc = $fdoc])* pub $function: Option<unsafe extern "C" fn($($arg: $type),*) $(-> $ret)?>,)+
            }

            impl $crate::CType for $name {
                fn declare(name: &str) -> String {
                    $crate::shape::join(stringify!($name), name)
                }
            }

            impl $name {
                /// What the header says of it.
                pub const DOCS: &'static [&'static str] = &[$($doc),*];
                /// Its functions, in order: the rows by which a table is checked.
                pub const FUNCTIONS: &'static [$crate::Function] = &[$($crate::Function {
                    name: stringify!($function),
                    since: $crate::tables::$since,
                    required: tables!(@required $need),
                    offset: core::mem::offset_of!($name, $function),
                }),+];
                /// Its members, in order.
                pub const MEMBERS: &'static [$crate::Member] = &[
                    $crate::Member {
                        name: "size",
                        offset: core::mem::offset_of!($name, size),
                        docs: &[" How large the table is, in bytes."],
                        declaration: || <usize as $crate::CType>::declare("size"),
                    },
                    $($crate::Member {
                        name: stringify!($function),
                        offset: core::mem::offset_of!($name, $function),
                        docs: &[$($fdoc),*],
                        declaration: || {
                            let arguments: &[String] =
                                &[$(<$type as $crate::CType>::declare(stringify!($arg))),*];
                            let name = format!("(*{})({})", stringify!($function), arguments.join(", "));
                            let returns: String = tables!(@returns $($ret)?);
                            // `const uint8_t *` already ends in its star.
                            if returns.ends_with('*') { returns + &name } else { format!("{returns} {name}") }
                        },
                    }),+
                ];
            }
        )+
    };
}

/// Declares numbers that both sides know by name.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $value:expr;)+) => {
        $($(#[doc = $doc])+ pub const $name: $type = $value;)+

        /// Every number with its name and meaning, for the header.
        pub const CODES: &[(&str, i64, &[&str])] =
            &[$((stringify!($name), $name as i64, &[$($doc),+])),+];
    };
}

pub(crate) use {codes, records, tables};
