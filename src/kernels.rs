//! What is embedded: the kernels, and the images (machine code and PTX) that hold them.
//!
//! `kernels/*.cu` and `kernels/pairs.cuh` define the same set; `cargo xtask kernels` checks it against
//! the entry points of the compiled code.

use crate::DType;
use crate::plan::Regime;

/// One entry point that computes rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Entry point, such as `zlpr_warp_f16_u8`.
    pub name: &'static str,
    /// Regime, which is also the module (`kernels/<module>.cu`).
    pub regime: Regime,
    /// Type of the scores.
    pub scores: DType,
    /// Type of the labels.
    pub labels: DType,
}

macro_rules! kernels {
    ($($regime:ident $module:literal),+) => { &[$(
        kernels!(@ $regime $module "f32_f32" F32 F32), kernels!(@ $regime $module "f32_u8" F32 U8),
        kernels!(@ $regime $module "f16_f16" F16 F16), kernels!(@ $regime $module "f16_f32" F16 F32),
        kernels!(@ $regime $module "f16_u8" F16 U8), kernels!(@ $regime $module "bf16_bf16" Bf16 Bf16),
        kernels!(@ $regime $module "bf16_f32" Bf16 F32), kernels!(@ $regime $module "bf16_u8" Bf16 U8),
    )+] };
    (@ $regime:ident $module:literal $pair:literal $scores:ident $labels:ident) => {
        Kernel {
            name: concat!("zlpr_", $module, "_", $pair),
            regime: Regime::$regime,
            scores: DType::$scores,
            labels: DType::$labels,
        }
    };
}

/// Every row kernel of this build.
pub const KERNELS: &[Kernel] = kernels!(Warp "warp", Block "block", Staged "staged", TwoPass "two_pass");

/// Entry point that sums row losses, in the module of [`TOTAL_MODULE`].
pub const TOTAL: &str = "zlpr_total";
/// Module of [`TOTAL`].
pub const TOTAL_MODULE: &str = "total";
/// Threads per block of [`TOTAL`].
pub const TOTAL_THREADS: u32 = 256;

/// What an image is compiled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// Machine code for devices of this major capability and at least this minor one (80 = 8.0).
    MachineCode(u32),
    /// PTX by the NVRTC of this build, for devices of at least this capability.
    BuiltPtx(u32),
    /// PTX by the pinned NVRTC 12.1, for devices of at least this capability and drivers from 530 on.
    PrebuiltPtx(u32),
}

impl std::fmt::Display for ImageKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ImageKind::MachineCode(arch) => write!(f, "machine code sm_{arch}"),
            ImageKind::BuiltPtx(arch) => write!(f, "PTX compute_{arch} of this build"),
            ImageKind::PrebuiltPtx(arch) => write!(f, "prebuilt PTX compute_{arch}"),
        }
    }
}

/// One embedded file. PTX ends with a NUL, as the driver wants it.
#[derive(Clone, Copy)]
pub struct Image {
    /// Kernel module, such as `warp`.
    pub module: &'static str,
    /// What it is.
    pub kind: ImageKind,
    /// The file.
    pub bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/images.rs"));
