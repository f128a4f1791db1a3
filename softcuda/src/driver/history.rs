//! What became of handles and allocations that are no more, so that a report about their use can
//! name them, and what contexts left behind when they ended.

use std::borrow::Cow;
use std::collections::BTreeMap;
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

impl Object for Stream {
    const KIND: &'static str = "a stream";
}

impl Object for Event {
    const KIND: &'static str = "an event";
}

impl Object for Module {
    const KIND: &'static str = "a module";
}

impl Object for Pool {
    const KIND: &'static str = "a memory pool";
}

impl Object for Library {
    const KIND: &'static str = "a library";
}

impl Object for Link {
    const KIND: &'static str = "a linker's state";
}

impl Object for Kernel {
    const KIND: &'static str = "a kernel of a library";

    fn describe(&self) -> Cow<'static, str> {
        Cow::Owned(format!("the kernel {} of a library", self.name))
    }
}

impl Object for Graph {
    const KIND: &'static str = "a graph";
}

impl Object for Node {
    const KIND: &'static str = "a node of a graph";
}

impl Object for Exec {
    const KIND: &'static str = "an executable graph";
}

impl Object for Function {
    const KIND: &'static str = "a kernel";

    fn describe(&self) -> Cow<'static, str> {
        Cow::Owned(format!("the kernel {}", self.info.name))
    }
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
        let others = [
            (self.contexts.get(handle).is_some(), "a context"),
            (self.streams.get(handle).is_some(), Stream::KIND),
            (self.events.get(handle).is_some(), Event::KIND),
            (self.modules.get(handle).is_some(), Module::KIND),
            (self.functions.get(handle).is_some(), Function::KIND),
            (self.pools.get(handle).is_some(), Pool::KIND),
            (self.libraries.get(handle).is_some(), Library::KIND),
            (self.kernels.get(handle).is_some(), Kernel::KIND),
            (self.links.get(handle).is_some(), Link::KIND),
            (self.graphs.get(handle).is_some(), Graph::KIND),
            (self.nodes.get(handle).is_some(), Node::KIND),
            (self.execs.get(handle).is_some(), Exec::KIND),
        ];
        let other = others.iter().find(|(alive, _)| *alive).map(|(_, kind)| *kind);
        let reason = match (self.dead.get(handle), other) {
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

impl Allocation {
    /// What it is, for reports.
    pub(super) fn text(&self, base: u64) -> String {
        let by = self.by.map_or(String::new(), |by| format!(", allocated by {by}"));
        format!("{} bytes at {base:#x}{by}", self.bytes)
    }
}

impl Pinned {
    /// What it is, for reports.
    pub(super) fn text(&self, base: usize) -> String {
        let by = self.by.map_or(String::new(), |by| format!(", allocated by {by}"));
        format!("{} bytes of pinned host memory at {base:#x}{by}", self.bytes)
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
