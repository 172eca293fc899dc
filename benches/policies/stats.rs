//! Means over seeds and what they are worth.

/// Student's t for 95 % on both sides, by degrees of freedom from 1.
const T_95: [f64; 9] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];

/// A mean and half the width of its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Half the width; 0 of a single value, of which nothing is known.
    pub half: f64,
}

impl Mean {
    /// Of some values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        let n = values.len() as f64;
        let value = values.iter().sum::<f64>() / n.max(1.0);
        let squares: f64 = values.iter().map(|v| (v - value).powi(2)).sum();
        let freedom = values.len().saturating_sub(1);
        let Some(t) = freedom.checked_sub(1).map(|at| T_95[at.min(T_95.len() - 1)]) else {
            return Self { value, half: 0.0 };
        };
        Self { value, half: t * (squares / freedom as f64 / n).sqrt() }
    }

    /// Of ratios of pairs: the interval is that of the logarithms, which is where a ratio is even; `half` is its upper part.
    pub fn of_ratios(pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let logs = Self::of(pairs.into_iter().map(|(a, b)| (a / b).ln()));
        Self { value: logs.value.exp(), half: logs.value.exp() * (logs.half.exp() - 1.0) }
    }
}
