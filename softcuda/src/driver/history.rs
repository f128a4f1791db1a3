//! What became of handles and allocations that are no more, so that a report about their use can
//! name them, and what contexts left behind when they ended.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Mutex;

use super::calls::{Call, running};
use super::graph::{Exec, Graph, Node};
use super::library::{Kernel, Library};
use super::linker::Link;
use super::state::{Allocation, Driver, Event, Function, Module, Pinned, Pool, Stream, current_device, lock};
use super::status::Status;

/// Entries kept of each kind. Handles and addresses only grow, so the oldest go first.
const KEPT: usize = 1 << 14;

/// A map that forgets its oldest entries.
pub(crate) struct History<T>(Mutex<BTreeMap<u64, T>>);

impl<T> Default for History<T> {
    fn default() -> History<T> {
        History(Mutex::default())
    }
}

impl<T: Clone> History<T> {
    fn insert(&self, key: u64, entry: T) {
        let mut entries = lock(&self.0);
        entries.insert(key, entry);
        if entries.len() > KEPT {
            entries.pop_first();
        }
    }

    fn get(&self, key: u64) -> Option<T> {
        lock(&self.0).get(&key).cloned()
    }

    /// The last entry that begins at or before a key.
    fn at_or_before(&self, key: u64) -> Option<(u64, T)> {
        lock(&self.0).range(..=key).next_back().map(|(start, entry)| (*start, entry.clone()))
    }
}

/// What handles stand for.
pub(crate) trait Object {
    /// With its article, as it stands in a report.
    const KIND: &'static str;

    /// One of them, as it stands in a report.
    fn describe(&self) -> Cow<'static, str> {
        Cow::Borrowed(Self::KIND)
    }
}

/// Says what handles of each kind stand for, and in which table they are.
macro_rules! objects {
    ($($type:ident in $table:ident: $kind:literal $(named $name:expr)?;)*) => {
        $(
            impl Object for $type {
                const KIND: &'static str = $kind;

                $(fn describe(&self) -> Cow<'static, str> {
                    let name: fn(&$type) -> String = $name;
                    Cow::Owned(name(self))
                })?
            }
        )*

        impl Driver {
            /// What a live handle stands for.
            fn kind_of(&self, handle: u64) -> Option<&'static str> {
                $(
                    if self.$table.get(handle).is_some() {
                        return Some($kind);
                    }
                )*
                self.contexts.get(handle).map(|_| "a context")
            }
        }
    };
}

objects! {
    Stream in streams: "a stream";
    Event in events: "an event";
    Module in modules: "a module";
    Function in functions: "a kernel" named |function| format!("the kernel {}", function.info.name);
    Pool in pools: "a memory pool";
    Library in libraries: "a library";
    Kernel in kernels: "a kernel of a library" named |kernel| format!("the kernel {} of a library", kernel.name);
    Link in links: "a linker's state";
    Graph in graphs: "a graph";
    Node in nodes: "a node of a graph";
    Exec in execs: "an executable graph";
}

/// The end of an object.
#[derive(Clone)]
pub(crate) struct Death {
    what: Cow<'static, str>,
    by: Option<Call>,
}

impl Driver {
    /// Notes the end of an object.
    pub(super) fn bury(&self, handle: u64, object: &impl Object) {
        self.dead.insert(handle, Death { what: object.describe(), by: running() });
    }

    /// Refuses a handle that is not in the table of what it should be, and says why.
    pub(super) fn no_such(&self, handle: u64, wanted: &'static str) -> Status {
        let reason = match (self.dead.get(handle), self.kind_of(handle)) {
            (Some(Death { what, by: Some(by) }), _) => format!("{what} that was ended by {by}"),
            (Some(Death { what, by: None }), _) => format!("{what} that ended with its device"),
            (None, Some(kind)) => kind.to_owned(),
            (None, None) => "nothing that is known".to_owned(),
        };
        let caller = running().map_or(String::new(), |call| format!(" in {call}"));
        match current_device() {
            Some(device) => {
                device.refuse(Status::INVALID_HANDLE, format!("{handle:#x}{caller} is not {wanted}: it is {reason}"))
            }
            None => Status::INVALID_HANDLE,
        }
    }
}

/// An allocation that was freed.
#[derive(Clone, Copy)]
pub(crate) struct Freed {
    allocation: Allocation,
    by: Option<Call>,
}

impl History<Freed> {
    pub(super) fn note(&self, address: u64, allocation: Allocation) {
        self.insert(address, Freed { allocation, by: running() });
    }

    /// Whether something that began at this address was freed.
    pub(super) fn had(&self, address: u64) -> bool {
        self.get(address).is_some()
    }

    /// Who allocated and who freed what an address once lay in.
    pub(super) fn text(&self, address: u64) -> Option<String> {
        let (base, freed) = self.at_or_before(address)?;
        let Freed { allocation, by } = freed;
        (address - base < allocation.bytes).then(|| {
            let by = by.map_or(String::new(), |by| format!(", freed by {by}"));
            format!("{}{by}", allocation.text(base))
        })
    }
}

/// What a block is, for reports, with the call that made it.
fn block(bytes: impl Display, what: &str, base: u64, by: Option<Call>) -> String {
    let by = by.map_or(String::new(), |by| format!(", allocated by {by}"));
    format!("{bytes} bytes{what} at {base:#x}{by}")
}

impl Allocation {
    pub(super) fn text(&self, base: u64) -> String {
        block(self.bytes, "", base, self.by)
    }
}

impl Pinned {
    pub(super) fn text(&self, base: usize) -> String {
        block(self.bytes, " of pinned host memory", base as u64, self.by)
    }
}

/// The leaks of a lease: device memory, and pinned memory of the host's, that was still allocated
/// when its context ended.
#[derive(Default)]
pub(crate) struct Leaks {
    /// What it was, by the allocation's number: what is noted twice counts once.
    found: BTreeMap<u64, String>,
    /// Nobody has asked for them yet.
    unread: bool,
}

impl Leaks {
    /// More are not kept: whoever leaks that many has enough to look at.
    const MOST: usize = 1 << 12;

    pub(super) fn add(&mut self, id: u64, text: String) {
        if self.found.len() < Leaks::MOST && self.found.insert(id, text).is_none() {
            self.unread = true;
        }
    }

    /// One line each, for whoever asks, or for the end of the lease if nobody has.
    pub(crate) fn text(&mut self, asked: bool) -> Option<String> {
        if !asked && !self.unread {
            return None;
        }
        self.unread &= !asked;
        Some(self.found.values().map(|text| format!("{text}\n")).collect())
    }
}
