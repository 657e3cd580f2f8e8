//! The compiled schema is that of the declarations.

use std::path::Path;

#[test]
fn schema_is_compiled_from_its_declarations() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(root.join("proto"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let compiled = protox::Compiler::new([root.join("proto")])
        .unwrap()
        .include_imports(true)
        .open_files(files)
        .unwrap()
        .encode_file_descriptor_set();
    let path = root.join("src/schema.binpb");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &compiled).unwrap();
    }
    assert!(
        std::fs::read(&path).unwrap() == compiled,
        "proto/ changed: run the test with UPDATE_EXPECT=1"
    );
}
