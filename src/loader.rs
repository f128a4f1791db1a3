//! Which embedded image a device gets: machine code for it, this build's PTX, the prebuilt PTX.

use crate::Error;
use crate::kernels::{Image, ImageKind};

/// Driver answers after which the next image is tried (`CUresult`).
const INVALID_IMAGE: u32 = 200;
const NO_BINARY_FOR_GPU: u32 = 209;
const UNSUPPORTED_PTX_VERSION: u32 = 222;

/// The images of `module` that a device of `capability` may run, best first.
fn candidates<'a>(images: &'a [Image], module: &str, capability: (u32, u32)) -> Vec<&'a Image> {
    let device = capability.0 * 10 + capability.1;
    let mut fitting: Vec<_> = (images.iter().filter(|i| i.module == module))
        .filter_map(|image| match image.kind {
            // Machine code runs within one major capability, from its minor one upwards.
            ImageKind::MachineCode(arch) if arch / 10 == capability.0 && arch <= device => Some((0, arch, image)),
            ImageKind::BuiltPtx(arch) if arch <= device => Some((1, arch, image)),
            ImageKind::PrebuiltPtx(arch) if arch <= device => Some((2, arch, image)),
            _ => None,
        })
        .collect();
    fitting.sort_by_key(|&(kind, arch, _)| (kind, std::cmp::Reverse(arch)));
    fitting.into_iter().map(|(_, _, image)| image).collect()
}

/// Loads the first image that `load` accepts. `load` answers a refusal with the `CUresult` and an error;
/// refusals that another image may not meet (wrong architecture, PTX newer than the driver) move on.
///
/// # Errors
/// [`Error::NoImage`], or what `load` gave for any other refusal.
pub(crate) fn load_first<M>(
    images: &[Image],
    module: &'static str,
    capability: (u32, u32),
    driver: i32,
    mut load: impl FnMut(&Image) -> Result<M, (u32, Error)>,
) -> Result<M, Error> {
    let mut tried = Vec::new();
    let mut too_new = false;
    for image in candidates(images, module, capability) {
        match load(image) {
            Ok(module) => return Ok(module),
            Err((code @ (INVALID_IMAGE | NO_BINARY_FOR_GPU | UNSUPPORTED_PTX_VERSION), _)) => {
                too_new |= code == UNSUPPORTED_PTX_VERSION;
                tried.push(format!("{}: error {code}", image.kind));
            }
            Err((_, error)) => return Err(error),
        }
    }
    let remedy = if too_new {
        "update the NVIDIA driver, or build with an NVRTC that is not newer than the driver (ZLPR_NVRTC)"
    } else {
        "build with an NVRTC that knows this architecture (ZLPR_NVRTC), or name it in ZLPR_CUDA_ARCHS"
    };
    let tried = if tried.is_empty() { "none fits".into() } else { tried.join("; ") };
    Err(Error::NoImage { module, capability, driver, tried, remedy })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn image(module: &'static str, kind: ImageKind) -> Image {
        Image { module, kind, bytes: &[] }
    }
    const IMAGES: &[Image] = &[
        image("warp", ImageKind::PrebuiltPtx(75)),
        image("warp", ImageKind::PrebuiltPtx(80)),
        image("warp", ImageKind::BuiltPtx(75)),
        image("warp", ImageKind::BuiltPtx(80)),
        image("warp", ImageKind::BuiltPtx(90)),
        image("warp", ImageKind::MachineCode(80)),
        image("warp", ImageKind::MachineCode(86)),
        image("warp", ImageKind::MachineCode(90)),
        image("block", ImageKind::MachineCode(80)),
    ];

    /// Loads with a driver that refuses images by `refuse`; returns the order tried and the outcome.
    fn load(
        capability: (u32, u32),
        refuse: impl Fn(ImageKind) -> Option<u32>,
    ) -> (Vec<ImageKind>, Result<ImageKind, Error>) {
        let mut order = Vec::new();
        let outcome = load_first(IMAGES, "warp", capability, 12010, |image| {
            order.push(image.kind);
            match refuse(image.kind) {
                Some(code) => Err((code, Error::NoContext)),
                None => Ok(image.kind),
            }
        });
        (order, outcome)
    }

    use ImageKind::{BuiltPtx, MachineCode, PrebuiltPtx};

    #[test]
    fn machine_code_of_the_nearest_minor_capability_comes_first() {
        assert_eq!(load((8, 6), |_| None).1, Ok(MachineCode(86)));
        assert_eq!(load((8, 0), |_| None).1, Ok(MachineCode(80)));
        assert_eq!(load((8, 9), |_| None).1, Ok(MachineCode(86)));
        // 7.5 and 10.0 have no machine code here: machine code never crosses a major capability.
        assert_eq!(load((7, 5), |_| None).1, Ok(BuiltPtx(75)));
        assert_eq!(load((10, 0), |_| None).1, Ok(BuiltPtx(90)));
    }

    #[test]
    fn refusals_move_on_in_order() {
        let (order, outcome) = load((9, 0), |kind| match kind {
            MachineCode(_) => Some(NO_BINARY_FOR_GPU),
            BuiltPtx(90) => Some(INVALID_IMAGE),
            BuiltPtx(_) => Some(UNSUPPORTED_PTX_VERSION),
            PrebuiltPtx(_) => None,
        });
        assert_eq!(order, [MachineCode(90), BuiltPtx(90), BuiltPtx(80), BuiltPtx(75), PrebuiltPtx(80)]);
        assert_eq!(outcome, Ok(PrebuiltPtx(80)));
    }

    #[test]
    fn nothing_fits() {
        let (_, outcome) = load((8, 0), |_| Some(UNSUPPORTED_PTX_VERSION));
        let text = outcome.unwrap_err().to_string();
        assert!(
            text.contains("update the NVIDIA driver") && text.contains("prebuilt PTX compute_75: error 222"),
            "{text}"
        );
        let (order, outcome) = load((7, 0), |_| None);
        assert!(order.is_empty());
        assert!(outcome.unwrap_err().to_string().contains("none fits"));
    }

    #[test]
    fn other_errors_stop_the_search() {
        let out_of_memory = 2;
        let (order, outcome) = load((8, 0), |_| Some(out_of_memory));
        assert_eq!(order.len(), 1);
        assert_eq!(outcome, Err(Error::NoContext));
    }
}
