//! The shortest correct use: two rows of scores, hard labels, the mean loss and its gradient.

use zlpr::{Buffers, DType, Labels, Matrix, Options, Reduction, Targets, Upstream, Zlpr};

fn main() -> anyhow::Result<()> {
    let gpu = softcuda::gpu(Default::default())?; // a GPU, or a virtual one where there is none
    let context = zlpr::context(gpu.ordinal())?;
    let stream = context.default_stream();

    let (rows, cols) = (2, 4);
    let scores = stream.clone_htod(&[2.0f32, -1.0, 0.5, -3.0, -2.0, 1.5, -0.5, 0.0])?;
    let labels = stream.clone_htod(&[1u8, 0, 0, 0, 0, 1, 1, 0])?;

    // Once: load the kernels, allocate the outputs.
    let zlpr = Zlpr::new(&context, Options::new().reduction(Reduction::Mean))?;
    zlpr.prepare(DType::F32, DType::U8, cols)?;
    let mut buffers = Buffers::<f32>::new(&zlpr, &stream, rows, cols)?;

    // Every step: one call, asynchronous, without allocation.
    let scores = Matrix::new(&scores, rows, cols);
    let targets = Targets::new(Labels::Hard(Matrix::new(&labels, rows, cols)));
    let (outputs, gradient) = buffers.outputs(rows, cols)?;
    zlpr.forward_backward(&stream, scores, &targets, Upstream::Host(1.0), gradient, outputs)?;

    println!("loss per row  {:?}", stream.clone_dtoh(buffers.loss())?);
    println!("mean loss     {:?}", stream.clone_dtoh(buffers.total())?);
    println!("gradient      {:?}", stream.clone_dtoh(buffers.gradient())?);
    Ok(())
}
