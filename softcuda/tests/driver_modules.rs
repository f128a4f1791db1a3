//! Modules: what is loaded, what is refused and why, and what is known of their functions.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::ffi::{CString, c_void};
use std::sync::Arc;

use cudarc::driver::sys::{self, CUfunction_attribute_enum as Attribute, CUresult};
use cudarc::driver::{CudaContext, result};
use cudarc::nvrtc::Ptx;
use driver_support::{EXCHANGE, NOTHING, SCALE, a100, code, device, kernel};
use softcuda::Config;

fn with_header(version: &str, target: &str) -> String {
    NOTHING.replace(".version 7.0", &format!(".version {version}")).replace("sm_75", target)
}

fn load(context: &Arc<CudaContext>, text: &str) -> Result<(), CUresult> {
    context.load_module(Ptx::from_src(text)).map(|_| ()).map_err(|error| error.0)
}

#[test]
fn ptx_newer_than_the_driver_is_refused() {
    let (gpu, context) = device(Config { driver_version: 12_010, ..Config::capability(8, 0) });
    load(&context, &with_header("8.1", "sm_80")).unwrap();
    let refused = load(&context, &with_header("8.2", "sm_80")).unwrap_err();
    assert_eq!(refused, CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
    let report = gpu.report().unwrap();
    assert!(report.contains("8.2") && report.contains("8.1"), "{report}");
    let mut version = 0;
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().unwrap();
    assert_eq!(version, 12_010, "each device has a driver of its own");
}

#[test]
fn ptx_for_another_architecture_is_refused() {
    let none = Err(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
    let table = [
        ((7, 5), "sm_75", Ok(())),
        ((7, 5), "sm_80", none),
        ((8, 6), "sm_80", Ok(())),
        ((8, 6), "sm_90", none),
        ((9, 0), "sm_90a", Ok(())),
        // Features of one architecture exist on no other, newer ones included.
        ((10, 0), "sm_90a", none),
        ((10, 0), "sm_100f", Ok(())),
        ((12, 0), "sm_100", Ok(())),
        ((12, 0), "sm_100a", none),
    ];
    for ((major, minor), target, expected) in table {
        let (_gpu, context) = device(Config::capability(major, minor));
        let loaded = load(&context, &with_header("8.6", target));
        assert_eq!(loaded, expected, "{target} on {major}.{minor}");
    }
}

#[test]
fn machine_code_is_refused() {
    let (gpu, context) = a100();
    let elf = b"\x7fELF\x02\x01\x01\x00".to_vec();
    let fat = [0x50, 0xED, 0x55, 0xBA, 1, 0].to_vec();
    let wrapped = [0xB1, 0x43, 0x62, 0x46, 1, 0].to_vec();
    for image in [elf, fat, wrapped] {
        let refused = unsafe { result::module::load_data(image.as_ptr().cast()) };
        assert_eq!(code(refused), CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
        assert!(gpu.report().unwrap().contains("machine code"));
    }
    drop(context);
}

#[test]
fn what_is_not_ptx_is_an_invalid_image() {
    let (_gpu, context) = a100();
    for text in ["", "hello", "int main() {}"] {
        assert_eq!(load(&context, text).unwrap_err(), CUresult::CUDA_ERROR_INVALID_IMAGE, "{text:?}");
    }
    assert_eq!(code(unsafe { result::module::load_data(std::ptr::null()) }), CUresult::CUDA_ERROR_INVALID_VALUE);
}

#[test]
fn errors_in_ptx_are_reported_with_their_line() {
    let (gpu, context) = a100();
    let typo = SCALE.replace("mul.f32 %f3, %f2, %f1;", "mul.f32 %f3, %f2 %f1;");
    let unknown = SCALE.replace("mul.f32", "wobble.f32");
    let undeclared = SCALE.replace("%f3, %f2, %f1", "%f3, %f2, %nowhere");
    for (text, word) in [(typo, "line 26"), (unknown, "wobble"), (undeclared, "%nowhere")] {
        assert_eq!(load(&context, &text).unwrap_err(), CUresult::CUDA_ERROR_INVALID_PTX);
        let report = gpu.report().unwrap();
        assert!(report.contains("CUDA_ERROR_INVALID_PTX") && report.contains(word), "{report}");
    }
}

#[test]
fn too_much_static_shared_memory_does_not_compile() {
    let (gpu, context) = a100();
    let body = |bytes: u32| NOTHING.replace("    ret;", &format!("    .shared .align 4 .b8 tile[{bytes}];\n    ret;"));
    load(&context, &body(48 * 1024)).unwrap();
    assert_eq!(load(&context, &body(48 * 1024 + 4)).unwrap_err(), CUresult::CUDA_ERROR_INVALID_PTX);
    assert!(gpu.report().unwrap().contains("shared"), "{:?}", gpu.report());
}

#[test]
fn the_compiler_writes_its_log_where_it_is_told_to() {
    let (_gpu, context) = a100();
    let broken = CString::new(SCALE.replace("mul.f32", "wobble.f32")).unwrap();
    let mut log = [b'?'; 256];
    let mut options = [
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
        sys::CUjit_option::CU_JIT_OPTIMIZATION_LEVEL,
    ];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), 256 as *mut c_void, 4 as *mut c_void];
    let mut module = std::ptr::null_mut();
    let mut load = |image: &CString, values: &mut [*mut c_void; 3]| unsafe {
        sys::cuModuleLoadDataEx(&mut module, image.as_ptr().cast(), 3, options.as_mut_ptr(), values.as_mut_ptr())
    };
    assert_eq!(load(&broken, &mut values), CUresult::CUDA_ERROR_INVALID_PTX);
    let written = values[1] as usize;
    let text = std::str::from_utf8(&log[..written - 1]).unwrap();
    assert!(text.contains("wobble"), "{text}");
    assert_eq!(log[written - 1], 0);
    // A buffer that is too small holds the beginning.
    values[1] = 8 as *mut c_void;
    assert_eq!(load(&broken, &mut values), CUresult::CUDA_ERROR_INVALID_PTX);
    assert_eq!((values[1] as usize, log[7]), (8, 0));
    let good = CString::new(SCALE).unwrap();
    values[1] = 256 as *mut c_void;
    assert_eq!(load(&good, &mut values), CUresult::CUDA_SUCCESS);
    assert_eq!(values[1] as usize, 1, "an empty log");
    drop(context);
}

#[test]
fn files_are_loaded_without_a_terminating_zero() {
    let (_gpu, context) = a100();
    let path = std::env::temp_dir().join(format!("softcuda-{}.ptx", std::process::id()));
    std::fs::write(&path, SCALE).unwrap();
    let loaded = context.load_module(Ptx::from_file(&path));
    std::fs::remove_file(&path).unwrap();
    loaded.unwrap().load_function("scale").unwrap();
    let missing = context.load_module(Ptx::from_file("/nowhere/at/all.ptx"));
    assert_eq!(code(missing), CUresult::CUDA_ERROR_FILE_NOT_FOUND);
}

#[test]
fn functions_and_variables_are_found_by_name() {
    const VARIABLES: &str = r"
.version 7.0
.target sm_75
.address_size 64
.visible .global .align 4 .u32 answer = 42;
.visible .global .align 8 .b8 space[24];
";
    let (_gpu, context) = a100();
    let stream = context.default_stream();
    let module = context.load_module(Ptx::from_src(VARIABLES)).unwrap();
    let answer = module.get_global("answer", &stream).unwrap();
    let answer = unsafe { answer.transmute::<u32>(1) }.unwrap();
    assert_eq!(stream.clone_dtoh(&answer).unwrap(), [42]);
    assert_eq!(module.get_global("space", &stream).unwrap().len(), 24);
    assert_eq!(code(module.get_global("nothing", &stream)), CUresult::CUDA_ERROR_NOT_FOUND);

    let module = context.load_module(Ptx::from_src(NOTHING)).unwrap();
    assert_eq!(code(module.load_function("something")), CUresult::CUDA_ERROR_NOT_FOUND);
    let (mut count, mut first) = (0, std::ptr::null_mut());
    let one = module.load_function("nothing").unwrap();
    let two = module.load_function("nothing").unwrap();
    assert_eq!(one.cu_function(), two.cu_function());
    let mut raw = std::ptr::null_mut();
    unsafe {
        sys::cuFuncGetModule(&mut raw, one.cu_function()).result().unwrap();
        sys::cuModuleGetFunctionCount(&mut count, raw).result().unwrap();
        sys::cuModuleEnumerateFunctions(&mut first, 5, raw).result().unwrap();
    }
    assert_eq!((count, first), (1, one.cu_function()));
}

#[test]
fn a_function_knows_its_attributes() {
    let (gpu, context) = a100();
    let function = kernel(&context, EXCHANGE, "exchange");
    let get = |attribute| function.get_attribute(attribute).unwrap();
    assert_eq!(get(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK), 1024);
    assert_eq!(get(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES), 0);
    assert_eq!(get(Attribute::CU_FUNC_ATTRIBUTE_PTX_VERSION), 75);
    assert_eq!(get(Attribute::CU_FUNC_ATTRIBUTE_BINARY_VERSION), 80);
    assert!(get(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS) > 0);
    let dynamic = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    assert_eq!(get(dynamic), 48 * 1024);
    function.set_attribute(dynamic, 163 * 1024).unwrap();
    assert_eq!(get(dynamic), 163 * 1024);
    for wrong in [163 * 1024 + 1, -1] {
        let refused = function.set_attribute(dynamic, wrong);
        assert_eq!(code(refused), CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    assert!(gpu.report().unwrap().contains("MAX_DYNAMIC_SHARED_SIZE_BYTES"));
    let refused = function.set_attribute(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS, 1);
    assert_eq!(code(refused), CUresult::CUDA_ERROR_INVALID_VALUE);

    let (mut offset, mut size) = (9, 9);
    let mut name = std::ptr::null();
    unsafe {
        let handle = function.cu_function();
        sys::cuFuncGetParamInfo(handle, 0, &mut offset, &mut size).result().unwrap();
        assert_eq!((offset, size), (0, 8));
        let beyond = sys::cuFuncGetParamInfo(handle, 1, &mut offset, &mut size);
        assert_eq!(beyond, CUresult::CUDA_ERROR_INVALID_VALUE);
        sys::cuFuncGetName(&mut name, handle).result().unwrap();
        assert_eq!(std::ffi::CStr::from_ptr(name), c"exchange");
    }
}

#[test]
fn an_unloaded_module_takes_its_functions_along() {
    let (_gpu, context) = a100();
    let image = CString::new(NOTHING).unwrap();
    unsafe {
        let module = result::module::load_data(image.as_ptr().cast()).unwrap();
        let function = result::module::get_function(module, CString::new("nothing").unwrap()).unwrap();
        result::module::unload(module).unwrap();
        let stale = Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS;
        let refused = result::function::get_function_attribute(function, stale);
        assert_eq!(code(refused), CUresult::CUDA_ERROR_INVALID_HANDLE);
        assert_eq!(code(result::module::unload(module)), CUresult::CUDA_ERROR_INVALID_HANDLE);
    }
    drop(context);
}
