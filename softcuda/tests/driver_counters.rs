//! Counters by launch and by kernel, as a test reads them from its device.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use cudarc::driver::PushKernelArg;
use driver_support::{NOTHING, SCALE, device, kernel, shape};
use softcuda::{Config, KernelRecord, LaunchRecord};

#[test]
fn launches_are_recorded_one_by_one_and_summed_by_kernel() {
    let (gpu, context) = device(Config { trace: true, ..Config::capability(8, 0) });
    let stream = context.new_stream().unwrap();
    let (scale, nothing) = (kernel(&context, SCALE, "scale"), kernel(&context, NOTHING, "nothing"));
    let input = stream.clone_htod(&vec![1.0_f32; 1000]).unwrap();
    let mut output = stream.alloc_zeros::<f32>(1000).unwrap();
    assert_eq!(gpu.launches().unwrap(), []);
    for n in [1000_u32, 100] {
        let mut launch = stream.launch_builder(&scale);
        launch.arg(&mut output).arg(&input).arg(&2.5_f32).arg(&n);
        unsafe { launch.launch(shape(n.div_ceil(256), 256)) }.unwrap();
    }
    unsafe { stream.launch_builder(&nothing).launch(shape(3, 32)) }.unwrap();
    stream.synchronize().unwrap();

    let launches = gpu.launches().unwrap();
    let shapes: Vec<_> = launches.iter().map(|l| (l.number, l.kernel.as_str(), l.grid[0], l.block[0])).collect();
    assert_eq!(shapes, [(0, "scale", 4, 256), (1, "scale", 1, 256), (2, "nothing", 3, 32)]);
    assert_eq!([0, 1, 2].map(|i| launches[i].counters.global_read_bytes), [4000, 400, 0]);
    let traffic = launches[1].traffic.as_ref().unwrap();
    assert_eq!(traffic.buffers.len(), 2);
    assert_eq!((traffic.buffers[0].read.bytes, traffic.buffers[1].written.bytes), (400, 400));
    assert_eq!((traffic.dram_read_bytes, traffic.dram_write_bytes), (416, 416), "whole sectors");

    let kernels = gpu.kernels().unwrap();
    let sums: Vec<_> = kernels.iter().map(|k| (k.kernel.as_str(), k.counters.launches)).collect();
    assert_eq!(sums, [("nothing", 1), ("scale", 2)]);
    assert_eq!(kernels[1].counters.global_read_bytes, 4400);
    let traffic = kernels[1].traffic.as_ref().unwrap();
    assert_eq!((traffic.buffers[0].read.bytes, traffic.buffers[0].read.unique_bytes), (4400, 4400));
    let mut total = kernels[0].counters;
    total += kernels[1].counters;
    assert_eq!(gpu.counters(), Some(total));

    assert_eq!(serde_json::from_str::<LaunchRecord>(&launches[0].to_json()).unwrap(), launches[0]);
    assert_eq!(serde_json::from_str::<KernelRecord>(&kernels[1].to_json()).unwrap(), kernels[1]);
    gpu.reset_counters();
    assert_eq!((gpu.launches(), gpu.kernels()), (Some(vec![]), Some(vec![])));
}

#[test]
fn untraced_launches_are_recorded_too_and_the_log_is_bounded() {
    let (gpu, context) = device(Config::capability(8, 0));
    let stream = context.default_stream();
    let nothing = kernel(&context, NOTHING, "nothing");
    for _ in 0..1100 {
        unsafe { stream.launch_builder(&nothing).launch(shape(1, 32)) }.unwrap();
    }
    stream.synchronize().unwrap();
    let launches = gpu.launches().unwrap();
    assert_eq!((launches.len(), launches[0].number, launches[1023].number), (1024, 76, 1099));
    assert!(launches.iter().all(|launch| launch.traffic.is_none() && launch.counters.warps == 1));
    let kernels = gpu.kernels().unwrap();
    assert_eq!((kernels.len(), kernels[0].counters.launches), (1, 1100));
}
