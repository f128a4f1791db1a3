//! What must come before a launch, what a launch does not do, and the buffers that are allocated once.

use cudarc::driver::DevicePtr;
use zlpr::plan::{Plan, Problem, Regime};
use zlpr::{Buffers, DType, Error, Labels, Matrix, Options, Reduction, Targets, Upstream, Zlpr, raw};

use crate::call::{Call, Host, Method, accepted};

/// Scores and labels for `Buffers`, and a step with them.
struct Step {
    scores: cudarc::driver::CudaSlice<f32>,
    labels: cudarc::driver::CudaSlice<u8>,
}

impl Step {
    fn new(host: &Host, elements: usize) -> Step {
        let scores: Vec<f32> = (0..elements).map(|i| (i % 7) as f32 - 3.0).collect();
        let labels: Vec<u8> = (0..elements).map(|i| u8::from(i % 5 == 0)).collect();
        Step {
            scores: host.stream.clone_htod(&scores).expect("memory"),
            labels: host.stream.clone_htod(&labels).expect("memory"),
        }
    }

    fn run(&self, host: &Host, zlpr: &Zlpr, buffers: &mut Buffers<f32>, rows: usize, cols: usize) -> Result<(), Error> {
        let (outputs, gradient) = buffers.outputs(rows, cols)?;
        let scores = Matrix::new(&self.scores, rows, cols);
        let targets = Targets::new(Labels::Hard(Matrix::new(&self.labels, rows, cols)));
        zlpr.forward_backward(&host.stream, scores, &targets, Upstream::default(), gradient, outputs)
    }
}

#[test]
fn launching_what_is_not_prepared() {
    let host = Host::new();
    let zlpr = host.zlpr(Options::new().reduction(Reduction::Sum));
    let step = Step::new(&host, 2 * 2000);
    let mut buffers = Buffers::<f32>::new(&zlpr, &host.stream, 2, 2000).expect("buffers");
    let missing = |kernel| Err(Error::NotPrepared { kernel });
    assert_eq!(step.run(&host, &zlpr, &mut buffers, 2, 100), missing("zlpr_warp_f32_u8"));

    // Other types do not help, nor do shorter rows.
    zlpr.prepare(DType::F32, DType::F32, 2000).expect("kernels");
    assert_eq!(step.run(&host, &zlpr, &mut buffers, 2, 100), missing("zlpr_warp_f32_u8"));
    zlpr.prepare(DType::F32, DType::U8, 100).expect("kernels");
    assert_eq!(step.run(&host, &zlpr, &mut buffers, 2, 100), Ok(()));
    assert_eq!(step.run(&host, &zlpr, &mut buffers, 2, 2000), missing("zlpr_block_f32_u8"));
    zlpr.prepare(DType::F32, DType::U8, 2000).expect("kernels");
    assert_eq!(step.run(&host, &zlpr, &mut buffers, 2, 2000), Ok(()));
    host.synchronize();

    // Another context has nothing of this.
    let other = Host::new();
    let elsewhere = other.zlpr(Options::new());
    let step = Step::new(&other, 200);
    let mut buffers = Buffers::<f32>::new(&elsewhere, &other.stream, 2, 100).expect("buffers");
    assert_eq!(step.run(&other, &elsewhere, &mut buffers, 2, 100), missing("zlpr_warp_f32_u8"));
}

#[test]
fn the_total_is_prepared_with_a_reduction() {
    let host = Host::new();
    let step = Step::new(&host, 200);
    let without = host.zlpr(Options::new());
    without.prepare(DType::F32, DType::U8, 100).expect("kernels");
    let with = host.zlpr(Options::new().reduction(Reduction::Mean));
    let mut buffers = Buffers::<f32>::new(&with, &host.stream, 2, 100).expect("buffers");
    let before = host.launches();
    let missing = Err(Error::NotPrepared { kernel: zlpr::kernels::TOTAL });
    assert_eq!(step.run(&host, &with, &mut buffers, 2, 100), missing);
    assert_eq!(host.launches(), before, "half of the work was launched");
    with.prepare(DType::F32, DType::U8, 100).expect("kernels");
    assert_eq!(step.run(&host, &with, &mut buffers, 2, 100), Ok(()));
    host.synchronize();
    assert_eq!(host.launches(), before + 2);
}

/// A kernel of one's own under the name of an embedded one, which comes back with the next context.
#[test]
fn a_substitute_is_launched() {
    let ptx = c".version 7.0
        .target sm_75
        .address_size 64
        .visible .entry zlpr_total(.param .u64 a, .param .u64 b, .param .f32 c, .param .u64 total)
        {
            .reg .pred %p1;
            .reg .b32 %r1;
            .reg .b64 %rd1;
            mov.u32 %r1, %tid.x;
            setp.ne.u32 %p1, %r1, 0;
            @%p1 ret;
            ld.param.u64 %rd1, [total];
            mov.u32 %r1, 0x40e00000;
            st.global.u32 [%rd1], %r1;
            ret;
        }";
    for substitute in [true, false] {
        let host = Host::new();
        let step = Step::new(&host, 200);
        let zlpr = host.zlpr(Options::new().reduction(Reduction::Sum));
        zlpr.prepare(DType::F32, DType::U8, 100).expect("kernels");
        if substitute {
            assert_eq!(raw::substitute(zlpr::kernels::TOTAL, ptx), Ok(()));
        }
        let mut buffers = Buffers::<f32>::new(&zlpr, &host.stream, 2, 100).expect("buffers");
        assert_eq!(step.run(&host, &zlpr, &mut buffers, 2, 100), Ok(()));
        let total = host.stream.clone_dtoh(buffers.total()).expect("a total");
        host.synchronize();
        assert_eq!(total[0] == 7.0, substitute, "{total:?}");
        // SAFETY: nothing is in flight.
        assert_eq!(unsafe { raw::unload() }, Ok(()));
    }
}

/// Prepared for the longest row: every shorter row, with and without the gradient, whatever its regime.
#[test]
fn prepare_covers_every_shorter_row() {
    let host = Host::new();
    let zlpr = host.zlpr(Options::new());
    let (scores, labels) = (DType::F32, DType::U8);
    let limits = Regime::ALL.map(|r| r.max_cols(zlpr.device(), scores, labels));
    let longest = limits[2] as usize + 1;
    zlpr.prepare(scores, labels, longest).expect("kernels");
    let step = Step::new(&host, longest);
    let mut buffers = Buffers::<f32>::new(&zlpr, &host.stream, 1, longest).expect("buffers");
    let mut cols: Vec<usize> = limits[..3].iter().flat_map(|&l| [l as usize, l as usize + 1]).collect();
    cols.extend([0, 1]);
    for cols in cols {
        assert_eq!(step.run(&host, &zlpr, &mut buffers, 1, cols), Ok(()), "{cols}");
        let (outputs, _) = buffers.outputs(1, cols).expect("room");
        let targets = Targets::new(Labels::Hard(Matrix::new(&step.labels, 1, cols)));
        let forward = zlpr.forward(&host.stream, Matrix::new(&step.scores, 1, cols), &targets, outputs);
        assert_eq!(forward, Ok(()), "{cols}, forward only");
    }
    host.synchronize();
}

#[test]
fn unloading_forgets_what_was_prepared() {
    let host = Host::new();
    let call = Call::new(&host, Method::ForwardBackward);
    accepted(&host, &call, "prepared");
    // SAFETY: nothing is in flight.
    assert_eq!(unsafe { raw::unload() }, Ok(()));
    let error = call.run(&host.stream).unwrap_err();
    assert_eq!(error, Error::NotPrepared { kernel: "zlpr_warp_f32_f32" });
    // SAFETY: as above.
    assert_eq!(unsafe { raw::unload() }, Ok(()), "nothing is left to unload");
    call.zlpr.prepare(DType::F32, DType::F32, 10).expect("kernels");
    accepted(&host, &call, "prepared again");
}

#[test]
fn raw_launches_check_their_options() {
    let host = Host::new();
    let zlpr = host.zlpr(Options::new());
    zlpr.prepare(DType::F32, DType::F32, 8).expect("kernels");
    let plan = zlpr.plan(1, 8, DType::F32, DType::F32, None).expect("a plan");
    let memory = host.stream.alloc_zeros::<f32>(64).expect("memory");
    let pointer = memory.device_ptr(&host.stream).0;
    let arguments = raw::Arguments {
        scores: pointer,
        scores_stride: 8,
        labels: pointer + 64,
        labels_stride: 8,
        mask: 0,
        mask_stride: 0,
        gradient: 0,
        gradient_stride: 0,
        loss: pointer + 128,
        upstream: 0,
        upstream_stride: 0,
        scale: 1.0,
        total: 0,
        workspace: 0,
    };
    let launch = |options: Options| {
        // SAFETY: the arrays have the plan's shape and live until the stream is synchronised.
        unsafe { raw::launch(&plan, &options, &arguments, host.stream.cu_stream().cast()) }
    };
    assert_eq!(launch(Options::new().epsilon(0.5)), Err(Error::Epsilon { given: 0.5 }));
    assert_eq!(launch(Options::new().cutoff(f32::INFINITY)), Err(Error::Cutoff { given: f32::INFINITY }));
    assert_eq!(host.launches(), 0);
    assert_eq!(launch(Options::new()), Ok(()));
    host.synchronize();
    assert_eq!(host.launches(), 1);
}

/// No launch allocates, in any regime, with or without a total and a workspace; nor does it launch more than it says.
#[test]
fn launches_do_not_allocate() {
    let host = Host::new();
    let zlpr = host.zlpr(Options::new().reduction(Reduction::Mean));
    let cols = [100, 5000, 20_000, 40_000];
    zlpr.prepare(DType::F32, DType::U8, cols[3]).expect("kernels");
    let step = Step::new(&host, cols[3]);
    let mut buffers = Buffers::<f32>::new(&zlpr, &host.stream, 8193, 4).expect("buffers");
    buffers.reserve(&zlpr, &host.stream, 1, cols[3]).expect("buffers");
    host.synchronize();
    let before = host.gpu.live_allocations();
    for (rows, cols, launches) in
        [(1, cols[0], 2), (1, cols[1], 2), (1, cols[2], 2), (1, cols[3], 2), (8193, 4, 3), (8192, 4, 2), (0, 9, 1)]
    {
        let launched = host.launches();
        assert_eq!(step.run(&host, &zlpr, &mut buffers, rows, cols), Ok(()), "{rows} {cols}");
        assert_eq!(host.gpu.live_allocations(), before, "{rows} {cols}");
        host.synchronize();
        assert_eq!(host.launches(), launched + launches, "{rows} {cols}");
    }
}

#[test]
fn buffers_grow_only_on_request() {
    let host = Host::new();
    let zlpr = host.zlpr(Options::new().reduction(Reduction::Sum));
    zlpr.prepare(DType::F32, DType::U8, 1000).expect("kernels");
    let step = Step::new(&host, 20_000);
    let mut buffers = Buffers::<f32>::new(&zlpr, &host.stream, 10, 100).expect("buffers");
    let allocated = host.gpu.live_allocations();
    for (rows, cols) in [(10, 100), (1, 1000), (5, 200), (0, 0), (10, 0)] {
        assert_eq!(step.run(&host, &zlpr, &mut buffers, rows, cols), Ok(()), "{rows} {cols}");
        buffers.reserve(&zlpr, &host.stream, rows, cols).expect("it fits already");
    }
    let too_short = |argument, given, needed| Err(Error::TooShort { argument, given, needed });
    assert_eq!(step.run(&host, &zlpr, &mut buffers, 11, 10), too_short("loss", 10, 11));
    assert_eq!(step.run(&host, &zlpr, &mut buffers, 10, 101), too_short("gradient", 1000, 1010));
    assert_eq!(host.gpu.live_allocations(), allocated);

    buffers.reserve(&zlpr, &host.stream, 11, 10).expect("more rows");
    assert_eq!(step.run(&host, &zlpr, &mut buffers, 11, 10), Ok(()));
    assert_eq!(step.run(&host, &zlpr, &mut buffers, 10, 100), Ok(()), "the old shape still fits");
    buffers.reserve(&zlpr, &host.stream, 8193, 2).expect("so many that the total needs a workspace");
    assert_eq!(step.run(&host, &zlpr, &mut buffers, 8193, 2), Ok(()));
    host.synchronize();
    let losses = host.stream.clone_dtoh(&buffers.loss().slice(..8193)).expect("losses");
    let total = host.stream.clone_dtoh(buffers.total()).expect("a total")[0];
    host.synchronize();
    let sum: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
    assert!((f64::from(total) - sum).abs() <= 2e-6 * sum, "{total} {sum}");
}

/// A plan holds for what it was made for: nothing but the device's limits and the problem goes into it.
#[test]
fn plans_of_the_typed_layer_are_those_of_the_plan_layer() {
    let host = Host::new();
    let zlpr = host.zlpr(Options::new().reduction(Reduction::Mean));
    for cols in [0, 5, 1000, 10_000, 100_000] {
        for gradient in [None, Some(DType::Bf16), Some(DType::F32)] {
            let plan = zlpr.plan(9, cols, DType::Bf16, DType::F32, gradient).expect("a plan");
            let problem = Problem {
                rows: 9,
                cols: cols as u64,
                scores: DType::Bf16,
                labels: DType::F32,
                gradient,
                reduction: Reduction::Mean,
            };
            assert_eq!(Plan::new(zlpr.device(), &problem), Ok(plan));
        }
    }
}
