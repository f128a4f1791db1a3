//! What a device remembers of its launches.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::counters::Counters;
use crate::exec::{LaunchShape, Measured};
use crate::traffic::Traffic;

/// Launches that a device remembers one by one; of earlier ones only the sums by kernel remain.
const KEPT: usize = 1024;

/// One launch of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LaunchRecord {
    /// Number of the launch on its device, from 0.
    pub number: u64,
    /// The kernel's name.
    pub kernel: String,
    /// Blocks in each dimension.
    pub grid: [u32; 3],
    /// Threads of a block in each dimension.
    pub block: [u32; 3],
    /// Blocks of a cluster in each dimension; ones without clusters.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// What it did.
    pub counters: Counters,
    /// Where its traffic went, if it was traced.
    pub traffic: Option<Traffic>,
}

/// All launches of the kernels of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KernelRecord {
    /// The kernel's name.
    pub kernel: String,
    /// The sum of what they did.
    pub counters: Counters,
    /// The sum of their traffic, if any was traced.
    pub traffic: Option<Traffic>,
}

impl LaunchRecord {
    pub(crate) fn new(number: u64, kernel: &str, shape: &LaunchShape, measured: Measured) -> LaunchRecord {
        let LaunchShape { grid, block, cluster, dynamic_shared } = *shape;
        let Measured { counters, traffic } = measured;
        let kernel = kernel.to_owned();
        LaunchRecord { number, kernel, grid, block, cluster, dynamic_shared, counters, traffic }
    }

    /// The record as JSON.
    pub fn to_json(&self) -> String {
        json(self)
    }
}

impl KernelRecord {
    /// The record as JSON.
    pub fn to_json(&self) -> String {
        json(self)
    }
}

/// JSON of what always has one.
pub(crate) fn json(value: &impl Serialize) -> String {
    // Plain structures of numbers and texts cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// The launches of a device.
#[derive(Default)]
pub(crate) struct Records {
    pub(crate) launches: VecDeque<LaunchRecord>,
    pub(crate) kernels: BTreeMap<String, KernelRecord>,
    count: u64,
}

impl Records {
    /// Adds a launch that succeeded.
    pub(crate) fn add(&mut self, kernel: &str, shape: &LaunchShape, measured: Measured) {
        let sum = self.kernels.entry(kernel.to_owned()).or_insert_with(|| KernelRecord {
            kernel: kernel.to_owned(),
            counters: Counters::default(),
            traffic: None,
        });
        sum.counters += measured.counters;
        if let Some(traffic) = &measured.traffic {
            *sum.traffic.get_or_insert_default() += traffic;
        }
        if self.launches.len() == KEPT {
            self.launches.pop_front();
        }
        self.launches.push_back(LaunchRecord::new(self.count, kernel, shape, measured));
        self.count += 1;
    }
}
