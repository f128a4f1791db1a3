//! Libraries, whose kernels belong to no context, and the linker.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::ffi::{CStr, CString, c_void};
use std::ptr::{null, null_mut};

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, result};
use driver_support::{NOTHING, SCALE, a100, code};

/// Two kernels and a variable.
fn image() -> CString {
    let second = NOTHING.split_once(".address_size 64").unwrap().1;
    CString::new(format!("{SCALE}\n.visible .global .align 4 .b32 factor = 7;\n{second}")).unwrap()
}

fn load(image: &CStr) -> Result<sys::CUlibrary, CUresult> {
    let mut library = null_mut();
    let (image, none) = (image.as_ptr().cast(), null_mut());
    let loaded = unsafe { sys::cuLibraryLoadData(&mut library, image, none, null_mut(), 0, null_mut(), null_mut(), 0) };
    if loaded == CUresult::CUDA_SUCCESS { Ok(library) } else { Err(loaded) }
}

fn kernel_of(library: sys::CUlibrary, name: &CStr) -> Result<sys::CUkernel, CUresult> {
    let mut kernel = null_mut();
    let found = unsafe { sys::cuLibraryGetKernel(&mut kernel, library, name.as_ptr()) };
    if found == CUresult::CUDA_SUCCESS { Ok(kernel) } else { Err(found) }
}

/// Runs `scale` by a handle on the current context: 1, 2, 3 times 2.
fn scale(context: &CudaContext, function: sys::CUfunction) -> Vec<f32> {
    context.bind_to_thread().unwrap();
    let x = unsafe { result::malloc_sync(12) }.unwrap();
    unsafe { result::memcpy_htod_sync(x, &[1.0_f32, 2.0, 3.0]) }.unwrap();
    let (mut y, mut from, mut a, mut n) = (x, x, 2.0_f32, 3_u32);
    let mut params: [*mut c_void; 4] =
        [(&raw mut y).cast(), (&raw mut from).cast(), (&raw mut a).cast(), (&raw mut n).cast()];
    unsafe { result::launch_kernel(function, (1, 1, 1), (32, 1, 1), 0, null_mut(), &mut params) }.unwrap();
    let mut out = vec![0.0; 3];
    unsafe { result::memcpy_dtoh_sync(&mut out, x) }.unwrap();
    unsafe { result::free_sync(x) }.unwrap();
    out
}

#[test]
fn a_librarys_kernel_runs_in_every_context() {
    let (_one, first) = a100();
    let (_two, second) = a100();
    let library = load(&image()).unwrap();
    let kernel = kernel_of(library, c"scale").unwrap();
    assert_eq!(kernel_of(library, c"scale").unwrap(), kernel, "the same one each time");
    for context in [&first, &second] {
        // By its own handle, and by that of its function in the context.
        assert_eq!(scale(context, kernel.cast()), [2.0, 4.0, 6.0]);
        let mut function = null_mut();
        unsafe { sys::cuKernelGetFunction(&mut function, kernel) }.result().unwrap();
        assert_eq!(scale(context, function), [2.0, 4.0, 6.0]);
    }
    unsafe { sys::cuLibraryUnload(library) }.result().unwrap();
    let stream = null_mut();
    let stale = unsafe { result::launch_kernel(kernel.cast(), (1, 1, 1), (1, 1, 1), 0, stream, &mut []) };
    assert_eq!(code(stale), CUresult::CUDA_ERROR_INVALID_HANDLE);
}

#[test]
fn a_library_says_what_is_in_it() {
    let (gpu, context) = a100();
    let library = load(&image()).unwrap();
    let mut count = 0;
    let mut kernels = [null_mut(); 3];
    unsafe {
        sys::cuLibraryGetKernelCount(&mut count, library).result().unwrap();
        sys::cuLibraryEnumerateKernels(kernels.as_mut_ptr(), 3, library).result().unwrap();
    }
    assert_eq!(count, 2);
    let name = |kernel| {
        let mut name = null();
        unsafe { sys::cuKernelGetName(&mut name, kernel) }.result().unwrap();
        unsafe { CStr::from_ptr(name) }
    };
    assert_eq!([name(kernels[0]), name(kernels[1])], [c"scale", c"nothing"]);
    assert!(kernels[2].is_null());
    let (mut parameters, mut offset, mut size, mut owner) = (0, 0, 0, null_mut());
    unsafe {
        sys::cuKernelGetParamCount(kernels[0], &mut parameters).result().unwrap();
        sys::cuKernelGetParamInfo(kernels[0], 2, &mut offset, &mut size).result().unwrap();
        sys::cuKernelGetLibrary(&mut owner, kernels[0]).result().unwrap();
    }
    assert_eq!((parameters, offset, size, owner), (4, 16, 4, library));
    assert_eq!(kernel_of(library, c"missing"), Err(CUresult::CUDA_ERROR_NOT_FOUND));
    assert!(gpu.report().unwrap().contains("no kernel missing"));

    let (mut address, mut bytes, mut value) = (0, 0, [0_u32]);
    unsafe { sys::cuLibraryGetGlobal(&mut address, &mut bytes, library, c"factor".as_ptr()) }.result().unwrap();
    unsafe { result::memcpy_dtoh_sync(&mut value, address) }.unwrap();
    assert_eq!((bytes, value), (4, [7]));

    use sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as DYNAMIC;
    let (device, mut most) = (context.cu_device(), 0);
    unsafe {
        sys::cuKernelSetAttribute(DYNAMIC, 100_000, kernels[1], device).result().unwrap();
        sys::cuKernelGetAttribute(&mut most, DYNAMIC, kernels[1], device).result().unwrap();
    }
    assert_eq!(most, 100_000);
    unsafe { sys::cuLibraryUnload(library) }.result().unwrap();
}

#[test]
fn a_library_needs_no_context_until_it_is_used() {
    let (_gpu, context) = a100();
    let library = std::thread::spawn(|| load(&image()).map(|library| library as usize)).join().unwrap().unwrap();
    let kernel = kernel_of(library as sys::CUlibrary, c"scale").unwrap();
    assert_eq!(scale(&context, kernel.cast()), [2.0, 4.0, 6.0]);
    unsafe { sys::cuLibraryUnload(library as sys::CUlibrary) }.result().unwrap();
}

#[test]
fn a_library_outlives_a_context() {
    let (gpu, context) = a100();
    let library = load(&image()).unwrap();
    let kernel = kernel_of(library, c"scale").unwrap();
    assert_eq!(scale(&context, kernel.cast()), [2.0, 4.0, 6.0]);
    drop(context);
    let fresh = CudaContext::new(gpu.ordinal()).unwrap();
    assert_eq!(scale(&fresh, kernel.cast()), [2.0, 4.0, 6.0]);
    unsafe { sys::cuLibraryUnload(library) }.result().unwrap();
}

#[test]
fn what_does_not_load_makes_no_library() {
    let (gpu, _context) = a100();
    assert_eq!(load(c"\x7fELF"), Err(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU));
    assert_eq!(load(c"not PTX"), Err(CUresult::CUDA_ERROR_INVALID_IMAGE));
    assert!(gpu.report().unwrap().contains(".version"));
}

#[test]
fn linking_one_module_gives_that_module() {
    let (gpu, context) = a100();
    let image = image();
    let (mut state, mut linked, mut size, mut module) = (null_mut(), null_mut(), 0, null_mut());
    let bytes = image.as_bytes_with_nul();
    let kind = sys::CUjitInputType::CU_JIT_INPUT_PTX;
    let add = |state, kind| unsafe {
        let (data, name) = (bytes.as_ptr().cast_mut().cast(), c"scale.ptx".as_ptr());
        sys::cuLinkAddData_v2(state, kind, data, bytes.len(), name, 0, null_mut(), null_mut())
    };
    unsafe {
        sys::cuLinkCreate_v2(0, null_mut(), null_mut(), &mut state).result().unwrap();
        assert_eq!(sys::cuLinkComplete(state, &mut linked, &mut size), CUresult::CUDA_ERROR_INVALID_VALUE, "empty");
        let cubin = sys::CUjitInputType::CU_JIT_INPUT_CUBIN;
        assert_eq!(add(state, cubin), CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
        add(state, kind).result().unwrap();
        assert_eq!(add(state, kind), CUresult::CUDA_ERROR_NOT_SUPPORTED);
        assert!(gpu.report().unwrap().contains("several modules"));
        sys::cuLinkComplete(state, &mut linked, &mut size).result().unwrap();
        assert_eq!(size, bytes.len());
        sys::cuModuleLoadData(&mut module, linked).result().unwrap();
        sys::cuLinkDestroy(state).result().unwrap();
        assert_eq!(sys::cuLinkDestroy(state), CUresult::CUDA_ERROR_INVALID_HANDLE);
    }
    let function = unsafe { result::module::get_function(module, c"scale".to_owned()) }.unwrap();
    assert_eq!(scale(&context, function), [2.0, 4.0, 6.0]);
}
