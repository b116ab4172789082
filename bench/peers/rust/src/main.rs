//! Encoding and searching with the crates `turbovec` and `turboquant`, dim 128, one thread.
//! One JSON line per result: ns per row, or per (query x row); minima over repetitions.
use std::hint::black_box;
use std::time::{Duration, Instant};

const DIM: usize = 128;
const TOP: usize = 10;
const WIDTHS: [usize; 3] = [2, 3, 4];

/// Numbers of about N(0, 1): sums of twelve uniform ones.
fn normal_rows(rows: usize, mut state: u64) -> Vec<f32> {
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..rows * DIM)
        .map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0)
        .collect()
}

/// Shortest of at least `least` runs within about a second, in ns.
fn shortest(least: usize, mut run: impl FnMut()) -> f64 {
    let begun = Instant::now();
    let mut best = f64::MAX;
    let mut runs = 0;
    while runs < least || (begun.elapsed() < Duration::from_millis(700) && runs < 20_000) {
        let started = Instant::now();
        run();
        best = best.min(started.elapsed().as_nanos() as f64);
        runs += 1;
    }
    best
}

fn report(peer: &str, what: &str, bits: usize, rows: usize, queries: usize, ns: f64, bytes: f64) {
    println!(
        "{{\"peer\": \"{peer}\", \"what\": \"{what}\", \"bits\": {bits}, \"rows\": {rows}, \
         \"queries\": {queries}, \"ns\": {ns:.4}, \"bytes\": {bytes:.1}}}"
    );
}

fn turbovec(bits: usize) {
    const BATCH: usize = 10_000;
    let data = normal_rows(262_144, 1);
    let queries = normal_rows(8, 2);
    let filled = |rows: usize| {
        let mut index = turbovec::TurboQuantIndex::new(DIM, bits).unwrap();
        index.add(&data[..rows * DIM]);
        index
    };
    let size = |rows: usize| filled(rows).serialized_len() as f64;
    let bytes = (size(8192) - size(4096)) / 4096.0; // the header is not counted
    let mut index = filled(BATCH);
    let encode = shortest(8, || index.add(&data[..BATCH * DIM])) / BATCH as f64;
    report("turbovec", "encode", bits, BATCH, 0, encode, bytes);
    for rows in [4096, 262_144] {
        let index = filled(rows);
        index.prepare();
        for count in [1, 8] {
            let search = shortest(20, || {
                black_box(index.search(&queries[..count * DIM], TOP));
            });
            let ns = search / (rows * count) as f64;
            report("turbovec", "search", bits, rows, count, ns, bytes);
        }
    }
}

/// Scores only: the crate has no search.
fn turboquant(bits: usize) {
    const ROWS: usize = 4096;
    let quantizer = turboquant::TurboQuantMSE::new(DIM, bits as u8, 1).unwrap();
    let rows: Vec<Vec<f64>> = normal_rows(ROWS, 1)
        .chunks(DIM)
        .map(|row| {
            let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            row.iter().map(|&x| f64::from(x) / norm).collect()
        })
        .collect();
    let encode = || turboquant::batch_quantize_mse(&quantizer, &rows).unwrap();
    let ns = shortest(3, || {
        black_box(encode());
    });
    let batch = encode();
    let bytes = batch.bytes_per_vector();
    report("turboquant crate", "encode", bits, ROWS, 0, ns / ROWS as f64, bytes);
    let score = shortest(3, || {
        let scores = turboquant::batch_attention_scores_mse(&quantizer, &batch, &rows[7]);
        black_box(scores.unwrap());
    });
    report("turboquant crate", "search", bits, ROWS, 1, score / ROWS as f64, bytes);
}

fn main() {
    for bits in WIDTHS {
        turbovec(bits);
        turboquant(bits);
    }
}
