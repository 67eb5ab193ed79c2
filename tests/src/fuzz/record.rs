//! Records as the journal holds them.

use store_forward::record::Record;

/// What can be decoded is encoded to what decodes to the same.
pub(super) fn run(data: &[u8]) {
    let Ok(record) = postcard::from_bytes::<Record>(data) else { return };
    let bytes = postcard::to_stdvec(&record).expect("what was decoded can be encoded");
    let again: Record = postcard::from_bytes(&bytes).expect("what was encoded can be decoded");
    assert_eq!(again, record);
}
