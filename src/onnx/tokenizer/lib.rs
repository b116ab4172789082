//! Hugging Face tokenizers behind a C interface (tokenizer_c.h says what each function does).
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::slice;
use std::sync::Once;
use tokenizers::Tokenizer;

/// A panic of the library ends in an error of the caller's, not on standard error.
fn quietly<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static SILENCE: Once = Once::new();
    SILENCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err("it panicked".to_string()))
}

/// Copies as much as there is room for and returns the whole length.
unsafe fn copy_out<T: Copy>(from: &[T], to: *mut T, capacity: usize) -> isize {
    let count = from.len().min(capacity);
    slice::from_raw_parts_mut(to, count).copy_from_slice(&from[..count]);
    from.len() as isize
}

#[no_mangle]
pub unsafe extern "C" fn tq_tokenizer_load(
    json: *const u8,
    size: usize,
    error: *mut u8,
    error_capacity: usize,
    error_size: *mut usize,
) -> *mut Tokenizer {
    let bytes = slice::from_raw_parts(json, size);
    match quietly(|| Tokenizer::from_bytes(bytes).map_err(|e| e.to_string())) {
        Ok(mut tokenizer) => {
            // Files may cut or pad to some length of their training; a prompt is taken whole.
            let _ = tokenizer.with_truncation(None);
            tokenizer.with_padding(None);
            Box::into_raw(Box::new(tokenizer))
        }
        Err(message) => {
            *error_size = copy_out(message.as_bytes(), error, error_capacity) as usize;
            std::ptr::null_mut()
        }
    }
}

#[no_mangle]
pub unsafe extern "C" fn tq_tokenizer_vocabulary(tokenizer: *const Tokenizer) -> usize {
    let ids = (*tokenizer).get_vocab(true);
    ids.values().max().map_or(0, |&id| id as usize + 1)
}

#[no_mangle]
pub unsafe extern "C" fn tq_tokenizer_encode(
    tokenizer: *const Tokenizer,
    text: *const u8,
    size: usize,
    special: bool,
    ids: *mut u32,
    capacity: usize,
) -> isize {
    let Ok(text) = std::str::from_utf8(slice::from_raw_parts(text, size)) else {
        return -1;
    };
    let encoded =
        quietly(|| (*tokenizer).encode_fast(text, special).map_err(|e| e.to_string()));
    match encoded {
        Ok(encoding) => copy_out(encoding.get_ids(), ids, capacity),
        Err(_) => -2,
    }
}

#[no_mangle]
pub unsafe extern "C" fn tq_tokenizer_decode(
    tokenizer: *const Tokenizer,
    ids: *const u32,
    count: usize,
    skip_special: bool,
    text: *mut u8,
    capacity: usize,
) -> isize {
    let ids = slice::from_raw_parts(ids, count);
    match quietly(|| (*tokenizer).decode(ids, skip_special).map_err(|e| e.to_string())) {
        Ok(decoded) => copy_out(decoded.as_bytes(), text, capacity),
        Err(_) => -2,
    }
}

#[no_mangle]
pub unsafe extern "C" fn tq_tokenizer_free(tokenizer: *mut Tokenizer) {
    if !tokenizer.is_null() {
        drop(Box::from_raw(tokenizer));
    }
}
