//! Which embedded image a device gets, when images are refused, and what is said if none is left. The order itself
//! is tested beside the loader; here are drivers that refuse.

use softcuda::Config;
use zlpr::kernels::{IMAGES, ImageKind};
use zlpr::plan::{Device, Plan, Problem, Regime};
use zlpr::{DType, Error, Options, Reduction, raw};

use crate::alone;
use crate::call::{Call, Host, Method, accepted};

/// The PTX version of an image, `None` for machine code.
fn ptx_version(bytes: &[u8]) -> Option<(u32, u32)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let version = text.lines().find_map(|line| line.strip_prefix(".version "))?;
    let (major, minor) = version.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The newest PTX that the driver of CUDA 12.1 reads.
const OF_12_1: (u32, u32) = (8, 1);

/// Whether there is PTX for this capability that a driver of CUDA 12.1 reads.
fn fits_12_1(capability: u32) -> bool {
    IMAGES.iter().any(|image| {
        let arch = match image.kind {
            ImageKind::BuiltPtx(arch) | ImageKind::PrebuiltPtx(arch) => arch,
            ImageKind::MachineCode(_) => return false,
        };
        arch <= capability && ptx_version(image.bytes).is_some_and(|version| version <= OF_12_1)
    })
}

fn is_embedded(kind: impl Fn(ImageKind) -> bool) -> bool {
    IMAGES.iter().any(|image| kind(image.kind))
}

/// Machine code comes first and is refused by every virtual device: PTX is next.
#[test]
fn machine_code_refused_then_ptx() {
    let embedded = IMAGES.iter().filter_map(|image| match image.kind {
        ImageKind::MachineCode(arch) => Some((arch / 10, arch % 10)),
        _ => None,
    });
    let mut capabilities: Vec<_> = embedded.collect();
    if capabilities.is_empty() {
        eprintln!("skipped: this build has no machine code (ZLPR_CUDA_ARCHS, ZLPR_NVRTC)");
    }
    capabilities.sort_unstable();
    capabilities.dedup();
    for (major, minor) in capabilities {
        let host = Host::with(Config::capability(major, minor));
        let call = Call::new(&host, Method::ForwardBackward);
        assert!(host.gpu.report().is_some_and(|r| r.contains("machine code")), "machine code was not tried");
        accepted(&host, &call, "by PTX");
    }
}

/// A driver of CUDA 12.1 refuses the PTX of a newer NVRTC; the prebuilt PTX is made for it.
#[test]
fn ptx_too_new_then_prebuilt() {
    alone("loading::ptx_too_new_then_prebuilt", || {
        for capability in [75, 80, 90] {
            let config = Config::capability(capability / 10, capability % 10);
            let host = Host::with(Config { driver_version: 12_010, ..config });
            let zlpr = host.zlpr(Options::new());
            let prepared = zlpr.prepare(DType::F16, DType::U8, 5000);
            if fits_12_1(capability) {
                assert_eq!(prepared, Ok(()));
                accepted(&host, &Call::new(&host, Method::HalfScores), "by older PTX");
                continue;
            }
            let error = prepared.unwrap_err();
            let Error::NoImage { module: "warp", driver: 12_010, tried, remedy, .. } = &error else {
                panic!("{error}")
            };
            assert!(tried.contains("of this build: error 222"), "{error}");
            assert!(remedy.contains("update the NVIDIA driver") && remedy.contains("ZLPR_NVRTC"), "{error}");
            assert!(error.to_string().contains("12.1") && !error.to_string().contains('\n'), "{error}");
        }
    });
}

/// The prebuilt PTX is embedded whether or not there was an NVRTC, as long as it belongs to the sources.
#[test]
fn every_build_has_ptx_for_every_supported_device() {
    let built = is_embedded(|kind| matches!(kind, ImageKind::BuiltPtx(75)));
    let prebuilt = is_embedded(|kind| matches!(kind, ImageKind::PrebuiltPtx(75)));
    assert!(built || prebuilt, "no PTX for 7.5");
    for image in IMAGES.iter().filter(|image| matches!(image.kind, ImageKind::PrebuiltPtx(_))) {
        assert_eq!(ptx_version(image.bytes), Some(OF_12_1), "{} {}", image.module, image.kind);
    }
}

/// Devices before 7.5 are refused by the plan, and, if a plan for another device is brought along, by the loader.
#[test]
fn nothing_fits() {
    let host = Host::with(Config::capability(7, 0));
    let zlpr = host.zlpr(Options::new());
    assert_eq!(zlpr.device().capability, (7, 0));
    let refused = Error::Capability { capability: (7, 0) };
    assert_eq!(zlpr.plan(1, 1, DType::F32, DType::F32, None), Err(refused.clone()));
    assert_eq!(zlpr.prepare(DType::F32, DType::F32, 10), Err(refused));

    let elsewhere = Device { capability: (8, 0), ..*zlpr.device() };
    let problem = Problem {
        rows: 1,
        cols: 8,
        scores: DType::F32,
        labels: DType::F32,
        gradient: None,
        reduction: Reduction::None,
    };
    for regime in Regime::ALL {
        let plan = Plan::with_regime(&elsewhere, &problem, regime).expect("a plan for another device");
        let error = raw::prepare(&plan).unwrap_err();
        let Error::NoImage { module, capability: (7, 0), tried, remedy, .. } = &error else { panic!("{error}") };
        assert_eq!((*module, tried.as_str()), (regime.module(), "none fits"));
        assert!(remedy.contains("ZLPR_CUDA_ARCHS"), "{remedy}");
        assert!(!error.to_string().contains('\n'));
    }
}

/// Devices newer than anything embedded compile the newest PTX.
#[test]
fn newer_devices_compile_the_newest_ptx() {
    for (major, minor) in [(8, 6), (8, 9), (10, 0), (12, 0)] {
        let host = Host::with(Config::capability(major, minor));
        accepted(&host, &Call::new(&host, Method::HalfScores), "by PTX");
    }
}
