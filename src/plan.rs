//! Which kernel runs, with which grid, block, shared memory and workspace: a pure function of the device's
//! limits and the problem. No launch decides anything by itself.

use crate::kernels::{KERNELS, Kernel, TOTAL_THREADS};
use crate::{DType, Error, Reduction};

/// Where a row lives while it is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Regime {
    /// One warp per row, the row in registers.
    Warp,
    /// One block per row, the row in registers.
    Block,
    /// One block per row, the row in shared memory.
    Staged,
    /// One block per row, the row read twice for the gradient. Also forward only at any length beyond a warp's.
    TwoPass,
}

impl Regime {
    /// From the shortest rows to the longest.
    pub const ALL: [Regime; 4] = [Regime::Warp, Regime::Block, Regime::Staged, Regime::TwoPass];

    /// Kernel module of this regime: `kernels/<module>.cu`.
    pub const fn module(self) -> &'static str {
        match self {
            Regime::Warp => "warp",
            Regime::Block => "block",
            Regime::Staged => "staged",
            Regime::TwoPass => "two_pass",
        }
    }

    /// 16-byte packs of scores that one thread keeps in registers; `None` where the row lives elsewhere.
    pub const fn packs_per_thread(self) -> Option<u64> {
        match self {
            Regime::Warp | Regime::Block => Some(4),
            Regime::Staged | Regime::TwoPass => None,
        }
    }

    /// Block sizes it may be launched with, ascending.
    pub const fn threads(self) -> &'static [u32] {
        match self {
            Regime::Warp => &[128],
            Regime::Block => &[128, 256, 512],
            Regime::Staged | Regime::TwoPass => &[512],
        }
    }

    /// Rows that one block works on.
    pub const fn rows_per_block(self) -> u64 {
        match self {
            Regime::Warp => 4,
            _ => 1,
        }
    }

    /// Static shared memory of its kernels in bytes: the scratch of the block reductions.
    pub const fn static_shared_bytes(self) -> u32 {
        match self {
            Regime::Warp => 0,
            _ => 3 * 32 * 8,
        }
    }

    /// Longest row it takes, for these types on this device.
    pub fn max_cols(self, device: &Device, scores: DType, labels: DType) -> u64 {
        let per_pack = elements_per_pack(scores);
        match (self, self.packs_per_thread()) {
            // The body is at most cols / V packs; the edge elements are kept beside it.
            (Regime::Warp, Some(packs)) => (32 * packs + 1) * per_pack - 1,
            (_, Some(packs)) => {
                let threads = self.threads().last().copied().unwrap_or(0);
                (u64::from(threads) * packs + 1) * per_pack - 1
            }
            (Regime::Staged, _) => {
                let room = device.shared_memory_per_block.saturating_sub(self.static_shared_bytes());
                (u64::from(room) / staged_pack_bytes(scores, labels) + 1) * per_pack - 1
            }
            _ => u64::MAX,
        }
    }
}

impl std::fmt::Display for Regime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.module())
    }
}

/// Elements in the 16 bytes of scores that a thread takes at a time.
const fn elements_per_pack(scores: DType) -> u64 {
    16 / scores.size() as u64
}

/// Shared memory of one staged pack in bytes: scores and the labels of the same elements.
const fn staged_pack_bytes(scores: DType, labels: DType) -> u64 {
    16 + elements_per_pack(scores) * labels.size() as u64
}

/// Limits of a device that plans depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Shared memory that one block may ask for, in bytes (the opt-in limit).
    pub shared_memory_per_block: u32,
    /// Most blocks in the first dimension of a grid.
    pub max_grid: u32,
}

/// What is to be computed, without any pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Number of rows.
    pub rows: u64,
    /// Number of columns (classes).
    pub cols: u64,
    /// Type of the scores.
    pub scores: DType,
    /// Type of the labels.
    pub labels: DType,
    /// Type of the gradient; `None` = forward only.
    pub gradient: Option<DType>,
    /// How row losses become one value.
    pub reduction: Reduction,
}

/// How the total is computed from the row losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TotalPlan {
    /// Blocks of the first launch; with one share there is no second.
    pub shares: u32,
}

/// A decided launch. Made by [`Plan::new`] or [`Plan::with_regime`]; the fields are for reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// What it was made for.
    pub problem: Problem,
    /// Entry point.
    pub kernel: &'static Kernel,
    /// Blocks; 0 = there are no rows and nothing is launched.
    pub grid: u32,
    /// Threads per block.
    pub block: u32,
    /// Dynamic shared memory in bytes.
    pub shared_bytes: u32,
    /// The launches after it, if there is a reduction.
    pub total: Option<TotalPlan>,
    /// Workspace in bytes. It need not be initialised, and must not be shared by concurrent streams.
    pub workspace_bytes: u64,
}

/// Row losses that one block sums without help.
const VALUES_PER_SHARE: u64 = 8192;
/// Most shares: the second launch has one block sum them.
const MAX_SHARES: u64 = 1024;

impl Plan {
    /// The plan for a problem on a device: the first regime that holds the row on chip.
    ///
    /// # Errors
    /// [`Error::Capability`], [`Error::Types`], [`Error::GradientType`], [`Error::GridLimit`].
    pub fn new(device: &Device, problem: &Problem) -> Result<Plan, Error> {
        let regime = regimes_for(problem.gradient.is_some())
            .find(|r| problem.cols <= r.max_cols(device, problem.scores, problem.labels))
            .unwrap_or(Regime::TwoPass);
        Plan::with_regime(device, problem, regime)
    }

    /// The plan with a given regime, for tests and tuning.
    ///
    /// # Errors
    /// Those of [`Plan::new`], and [`Error::RegimeLimit`] if the regime cannot hold the row.
    pub fn with_regime(device: &Device, problem: &Problem, regime: Regime) -> Result<Plan, Error> {
        let &Problem { rows, cols, scores, labels, gradient, reduction } = problem;
        if device.capability < (7, 5) {
            return Err(Error::Capability { capability: device.capability });
        }
        if let Some(gradient) = gradient
            && (gradient != scores && gradient != DType::F32 || scores == DType::U8)
        {
            return Err(Error::GradientType { scores, gradient });
        }
        let kernel = KERNELS
            .iter()
            .find(|k| k.regime == regime && k.scores == scores && k.labels == labels)
            .ok_or(Error::Types { scores, labels })?;
        let allowed = regime.max_cols(device, scores, labels);
        if cols > allowed {
            return Err(Error::RegimeLimit { regime, cols, allowed });
        }
        let max_rows = u64::from(device.max_grid) * regime.rows_per_block();
        if rows > max_rows {
            return Err(Error::GridLimit { rows, regime, allowed: max_rows });
        }

        let packs = cols / elements_per_pack(scores);
        // The smallest block that holds the row.
        let block = (regime.threads().iter().copied())
            .find(|&t| regime.packs_per_thread().is_none_or(|p| regime == Regime::Warp || packs <= u64::from(t) * p))
            .or(regime.threads().last().copied())
            .unwrap_or(0);
        let shared_bytes = match regime {
            Regime::Staged => (packs * staged_pack_bytes(scores, labels)) as u32,
            _ => 0,
        };
        let total = (reduction != Reduction::None)
            .then(|| TotalPlan { shares: rows.div_ceil(VALUES_PER_SHARE).clamp(1, MAX_SHARES) as u32 });
        let workspace_bytes = match total {
            Some(TotalPlan { shares }) if shares > 1 => u64::from(shares) * 4,
            _ => 0,
        };
        let grid = rows.div_ceil(regime.rows_per_block()) as u32;
        Ok(Plan { problem: *problem, kernel, grid, block, shared_bytes, total, workspace_bytes })
    }

    /// Threads per block of the launches for the total.
    pub const fn total_block(&self) -> u32 {
        TOTAL_THREADS
    }
}

/// Regimes a problem may use, in order of preference. Forward only reads the row once in any regime, so
/// it skips the staging that exists for the second look.
pub(crate) fn regimes_for(gradient: bool) -> impl Iterator<Item = Regime> {
    Regime::ALL.into_iter().filter(move |&r| gradient || matches!(r, Regime::Warp | Regime::TwoPass))
}
