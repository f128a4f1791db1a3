//! A dense layer on the CPU, and Adam.

use ndarray::{Array, Array1, Array2, ArrayView2, Axis, Dimension, Zip};

/// Learning rate of [`Adam`].
pub const LEARNING_RATE: f32 = 0.01;
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// scores = features * weights + bias, zero at first.
pub struct Linear {
    weights: Array2<f32>,
    bias: Array1<f32>,
    weights_adam: Adam<ndarray::Ix2>,
    bias_adam: Adam<ndarray::Ix1>,
}

impl Linear {
    /// The layer from `features` inputs to `labels` scores.
    pub fn new(features: usize, labels: usize) -> Self {
        let (weights, bias) = (Array2::zeros((features, labels)), Array1::zeros(labels));
        let (weights_adam, bias_adam) = (Adam::new(weights.raw_dim()), Adam::new(bias.raw_dim()));
        Linear { weights, bias, weights_adam, bias_adam }
    }

    /// Scores [rows, labels] of features [rows, d].
    pub fn scores(&self, features: ArrayView2<'_, f32>) -> Array2<f32> {
        features.dot(&self.weights) + &self.bias
    }

    /// One step against the gradient of the loss with respect to the scores.
    pub fn step(&mut self, features: ArrayView2<'_, f32>, gradient: &Array2<f32>) {
        self.weights_adam.step(&mut self.weights, &features.t().dot(gradient));
        self.bias_adam.step(&mut self.bias, &gradient.sum_axis(Axis(0)));
    }
}

/// Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1) for one array of parameters.
struct Adam<D: Dimension> {
    steps: i32,
    mean: Array<f32, D>,
    square: Array<f32, D>,
}

impl<D: Dimension> Adam<D> {
    fn new(shape: D) -> Self {
        Adam { steps: 0, mean: Array::zeros(shape.clone()), square: Array::zeros(shape) }
    }

    fn step(&mut self, parameters: &mut Array<f32, D>, gradient: &Array<f32, D>) {
        self.steps += 1;
        let rate = LEARNING_RATE / (1.0 - BETA1.powi(self.steps));
        let correction = 1.0 / (1.0 - BETA2.powi(self.steps));
        Zip::from(parameters).and(&mut self.mean).and(&mut self.square).and(gradient).for_each(
            |parameter, mean, square, &gradient| {
                *mean = BETA1 * *mean + (1.0 - BETA1) * gradient;
                *square = BETA2 * *square + (1.0 - BETA2) * gradient * gradient;
                *parameter -= rate * *mean / ((*square * correction).sqrt() + EPSILON);
            },
        );
    }
}
