-- The manifest of one run, version 1: one DuckDB file, written once, never changed.
-- One table per class of repro/evidence/model.py, lineage.py, training.py and states.py, which describe each column in full;
-- a test holds them together.
-- Times are UTC, ISO 8601 with microseconds and a Z. Digests are 'sha256:' and 64 hexadecimal digits.
-- Keys are checked by the reader: an index for each would make a small manifest half as large again.

-- The run itself: exactly one row.
-- Key: run_id.
CREATE TABLE run (
    run_id VARCHAR NOT NULL,
    replay_of VARCHAR,                      -- the run that this one repeats
    argv VARCHAR[] NOT NULL,                -- the command; secrets are '<redacted>'
    root VARCHAR NOT NULL,                  -- absolute path of the code tree
    working_directory VARCHAR NOT NULL,     -- relative to root
    started_at VARCHAR NOT NULL,
    ended_at VARCHAR NOT NULL,
    wall_seconds DOUBLE NOT NULL,
    cpu_seconds DOUBLE NOT NULL,            -- user and system, all descendants that were waited for
    peak_memory_bytes BIGINT NOT NULL,      -- largest resident set of any one process
    status VARCHAR NOT NULL,                -- completed, failed, killed, interrupted
    exit_code BIGINT,                       -- NULL when a signal ended the command
    signal VARCHAR,                         -- such as SIGKILL
    recorder_version VARCHAR NOT NULL
);

-- Every Python process in which the agent woke up.
-- Key: process_key.
CREATE TABLE process (
    process_key VARCHAR NOT NULL,           -- a role, not a pid: main, main/fork.1, main/rank0
    parent_key VARCHAR,
    pid BIGINT NOT NULL,
    argv VARCHAR[] NOT NULL,
    executable VARCHAR NOT NULL,
    python_version VARCHAR NOT NULL,
    rank BIGINT,
    world_size BIGINT,
    started_at VARCHAR NOT NULL,
    ended_at VARCHAR,                       -- NULL: it did not say goodbye
    attempt BIGINT NOT NULL,                -- how often its group of ranks had been started again before
    exit_code BIGINT,                       -- what its parent was told when it waited for it
    signal VARCHAR,                         -- such as SIGKILL, likewise
    exited_at VARCHAR                       -- when its parent was told
);

-- Named facts about code, data, environment, variables, hardware, streams, randomness, the trace, and determinism: its
-- mode, operation.N (no deterministic way, and the line that called it), change.N (a setting that the training changed).
-- Key: topic, name.
CREATE TABLE fact (
    topic VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    value VARCHAR NOT NULL,
    source VARCHAR NOT NULL                 -- observed, declared
);

-- What should have been seen and was not.
-- Key: topic, subject, reason.
CREATE TABLE gap (
    topic VARCHAR NOT NULL,
    subject VARCHAR NOT NULL,
    reason VARCHAR NOT NULL
);

-- The code tree before the command started; the bytes are objects in the store.
-- Key: path.
CREATE TABLE code_file (
    path VARCHAR NOT NULL,                  -- relative to root; absolute for an editable install outside it
    kind VARCHAR NOT NULL,                  -- file, symlink
    mode BIGINT NOT NULL,                   -- permission bits
    size_bytes BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    state VARCHAR NOT NULL                  -- committed, modified, untracked, ignored, editable, plain
);

-- The distributions installed for the recorded interpreter.
-- Key: name, location.
CREATE TABLE package (
    name VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    location VARCHAR NOT NULL,
    origin VARCHAR NOT NULL,                -- index, direct, editable, unknown
    direct_url VARCHAR,                     -- PEP 610, credentials removed
    record_sha256 VARCHAR,                  -- digest of its RECORD file
    wheel_sha256 VARCHAR                    -- the wheel that a replay installs, an object in the store
);

-- Installed files that are not what the RECORD of their distribution says.
-- Key: path.
CREATE TABLE package_change (
    package VARCHAR NOT NULL,
    path VARCHAR NOT NULL,                  -- absolute
    state VARCHAR NOT NULL,                 -- changed, missing
    recorded_sha256 VARCHAR NOT NULL,
    found_sha256 VARCHAR
);

-- The packages of the operating system.
-- Key: manager, name, architecture.
CREATE TABLE system_package (
    manager VARCHAR NOT NULL,               -- dpkg, rpm, apk, conda
    name VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    architecture VARCHAR NOT NULL,
    build VARCHAR                           -- conda: build string and channel
);

-- Libraries and programs that the run had mapped as code.
-- Key: path.
CREATE TABLE shared_object (
    path VARCHAR NOT NULL,                  -- absolute
    build_id VARCHAR,                       -- of the ELF file, hexadecimal
    size_bytes BIGINT NOT NULL,
    sha256 VARCHAR,
    owner VARCHAR                           -- the distribution or system package that it belongs to
);

-- Files read and written.
-- Key: path, role.
CREATE TABLE data_file (
    path VARCHAR NOT NULL,                  -- relative to root if inside it, else absolute
    role VARCHAR NOT NULL,                  -- input, output
    category VARCHAR NOT NULL,              -- data, code, environment, system, temporary
    dataset VARCHAR,                        -- name of its dataset
    size_bytes BIGINT,
    digest VARCHAR,                         -- sha256:… or blake3:…; of an input, when it was first read
    modified_at VARCHAR,
    process_key VARCHAR NOT NULL,           -- who opened it first; KEY>PROGRAM for other programs
    library VARCHAR NOT NULL,               -- what was seen to open it
    seen_by VARCHAR NOT NULL,               -- agent, kernel, both, declared
    changed_during_run BOOLEAN NOT NULL
);

-- Input files that belong together.
-- Key: name.
CREATE TABLE dataset (
    name VARCHAR NOT NULL,                  -- path of the folder or file; hf:NAME in a Hugging Face cache
    kind VARCHAR NOT NULL,                  -- folder, file, dvc, huggingface, declared
    file_count BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    digest VARCHAR NOT NULL,                -- over the sorted list of [path, digest]
    reference VARCHAR                       -- what a pointer says that it is
);

-- Files that the run renamed, linked or removed.
-- Key: ordinal.
CREATE TABLE file_change (
    ordinal BIGINT NOT NULL,                -- in the order of time
    action VARCHAR NOT NULL,                -- renamed, linked, removed
    path VARCHAR NOT NULL,
    target VARCHAR,
    process_key VARCHAR NOT NULL
);

-- Every program that the run executed, as the kernel saw it.
-- Key: ordinal.
CREATE TABLE program (
    ordinal BIGINT NOT NULL,                -- in the order of time
    process_key VARCHAR NOT NULL,
    pid BIGINT NOT NULL,
    parent_pid BIGINT NOT NULL,
    path VARCHAR NOT NULL,
    argv VARCHAR[] NOT NULL,                -- secrets are '<redacted>'
    sha256 VARCHAR,
    started_at VARCHAR NOT NULL
);

-- Calls that seeded a generator.
-- Key: process_key, function, ordinal.
CREATE TABLE seed (
    process_key VARCHAR NOT NULL,
    ordinal BIGINT NOT NULL,
    function VARCHAR NOT NULL,
    argument VARCHAR NOT NULL,              -- a decimal string: seeds exceed 63 bits
    site VARCHAR NOT NULL                   -- file:line of the caller
);

-- What unseeded generators started from, and the order in which folders were listed.
-- Key: process_key, stream, ordinal.
CREATE TABLE entropy (
    process_key VARCHAR NOT NULL,
    stream VARCHAR NOT NULL,                -- such as torch.initial_seed, random.global, os.listdir FOLDER
    ordinal BIGINT NOT NULL,
    value VARCHAR NOT NULL,                 -- of a listing: SHA-256 of its sorted names, then their ranks as listed, in hex
    site VARCHAR NOT NULL
);

-- Digests of generator states.
-- Key: process_key, moment, generator.
CREATE TABLE generator_state (
    process_key VARCHAR NOT NULL,
    moment VARCHAR NOT NULL,                -- import, first-step, end
    generator VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL
);

-- Settings that bear on the bits.
-- Key: process_key, moment, name.
CREATE TABLE setting (
    process_key VARCHAR NOT NULL,
    moment VARCHAR NOT NULL,                -- import, first-step, end
    name VARCHAR NOT NULL,
    value VARCHAR NOT NULL
);

-- The trace: a DOUBLE holds every narrower float exactly.
-- Key: process_key, name, step.
CREATE TABLE metric (
    process_key VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    step BIGINT NOT NULL,
    value DOUBLE NOT NULL,
    dtype VARCHAR NOT NULL,
    at_seconds DOUBLE NOT NULL              -- since the process started
);

-- The tensors that fingerprints are of. A list stands from its step on, until another list of the same anchor.
-- Key: process_key, anchor, step, ordinal.
CREATE TABLE traced_tensor (
    process_key VARCHAR NOT NULL,
    anchor VARCHAR NOT NULL,                -- optimizer.0, optimizer.1, …, backward
    step BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,                -- place in the list
    name VARCHAR NOT NULL,
    shape VARCHAR NOT NULL,                 -- such as [64, 3, 7, 7]
    dtype VARCHAR NOT NULL,
    device VARCHAR NOT NULL
);

-- What the fields of the traced steps held, bit for bit: docs/adr/0010-the-training-trace.md.
-- Key: process_key, anchor, step, place.
CREATE TABLE fingerprint (
    process_key VARCHAR NOT NULL,
    anchor VARCHAR NOT NULL,
    step BIGINT NOT NULL,
    place BIGINT NOT NULL,                  -- in causal order
    field VARCHAR NOT NULL,                 -- order, batch, rng.…, weight, buffer, gradient, hyperparameter, parameter, state, sketch
    words VARCHAR NOT NULL,                 -- 16 hexadecimal digits a tensor, or 16 dashes
    at_seconds DOUBLE NOT NULL              -- since the process started
);

-- What the run was configured with, as the library that read it understood it.
-- Key: process_key, source, name, ordinal.
CREATE TABLE hyperparameter (
    process_key VARCHAR NOT NULL,
    source VARCHAR NOT NULL,                -- argparse, click, hydra, …
    name VARCHAR NOT NULL,                  -- nested names are joined by dots
    ordinal BIGINT NOT NULL,
    value VARCHAR NOT NULL,                 -- secrets are '<redacted>'
    site VARCHAR NOT NULL                   -- file:line of the caller
);

-- Trees of modules that the run trained, as they were before a step: docs/adr/0011-checkpoints-models-and-operations.md.
-- Key: process_key, ordinal.
CREATE TABLE model (
    process_key VARCHAR NOT NULL,
    ordinal BIGINT NOT NULL,
    anchor VARCHAR NOT NULL,                -- whose parameters are in it
    step BIGINT NOT NULL,                   -- 0: the initial values
    class_name VARCHAR NOT NULL,            -- of the outermost module
    digest VARCHAR NOT NULL                 -- over the structure and the values
);

-- The modules of a model.
-- Key: process_key, model, place.
CREATE TABLE model_module (
    process_key VARCHAR NOT NULL,
    model BIGINT NOT NULL,                  -- ordinal of the model
    place BIGINT NOT NULL,                  -- 0 is the outermost
    path VARCHAR NOT NULL,
    class_name VARCHAR NOT NULL
);

-- The tensors of a model, and what they held.
-- Key: process_key, model, place.
CREATE TABLE model_tensor (
    process_key VARCHAR NOT NULL,
    model BIGINT NOT NULL,                  -- ordinal of the model
    place BIGINT NOT NULL,
    name VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,                  -- parameter, frozen, untrained, buffer
    shape VARCHAR NOT NULL,
    dtype VARCHAR NOT NULL,
    device VARCHAR NOT NULL,
    word VARCHAR NOT NULL                   -- 16 hexadecimal digits, or 16 dashes
);

-- Files of tensors that the run wrote or read.
-- Key: process_key, ordinal.
CREATE TABLE checkpoint (
    process_key VARCHAR NOT NULL,
    ordinal BIGINT NOT NULL,
    action VARCHAR NOT NULL,                -- written, read
    path VARCHAR NOT NULL,                  -- as in data_file; empty: no file
    library VARCHAR NOT NULL,
    steps VARCHAR NOT NULL,                 -- such as {"optimizer.0":12}
    tensor_count BIGINT NOT NULL,
    digest VARCHAR NOT NULL,                -- over its tensors, whatever the format of the file
    file_digest VARCHAR,
    at_seconds DOUBLE NOT NULL              -- since the process started
);

-- The tensors in a checkpoint.
-- Key: process_key, checkpoint, place.
CREATE TABLE checkpoint_tensor (
    process_key VARCHAR NOT NULL,
    checkpoint BIGINT NOT NULL,             -- ordinal of the checkpoint
    place BIGINT NOT NULL,
    name VARCHAR NOT NULL,
    shape VARCHAR NOT NULL,
    dtype VARCHAR NOT NULL,
    word VARCHAR NOT NULL                   -- 16 hexadecimal digits, or 16 dashes
);

-- What a training that goes on from a checkpoint needs besides: generators, cursors of loaders, buckets of DDP.
-- Key: process_key, checkpoint, name.
CREATE TABLE checkpoint_state (
    process_key VARCHAR NOT NULL,
    checkpoint BIGINT NOT NULL,             -- ordinal of the checkpoint
    name VARCHAR NOT NULL,
    value VARCHAR NOT NULL                  -- a generator's state in base64; else JSON
);

-- Checkpoints that this run read and another recorded run wrote.
-- Key: process_key, checkpoint.
CREATE TABLE continuation (
    process_key VARCHAR NOT NULL,
    checkpoint BIGINT NOT NULL,             -- ordinal of the checkpoint that was read
    from_run_id VARCHAR NOT NULL,
    from_process_key VARCHAR NOT NULL,
    from_checkpoint BIGINT NOT NULL,        -- ordinal of the checkpoint that was written there
    matched_by VARCHAR NOT NULL,            -- file, content
    steps VARCHAR NOT NULL                  -- since the first run of the chain, such as {"optimizer.0":112}
);

-- The operations of steps that were looked at operation by operation.
-- Key: process_key, anchor, step, place.
CREATE TABLE operation (
    process_key VARCHAR NOT NULL,
    anchor VARCHAR NOT NULL,
    step BIGINT NOT NULL,
    place BIGINT NOT NULL,                  -- in the order of the calls
    name VARCHAR NOT NULL,                  -- such as aten::mm
    inputs VARCHAR NOT NULL,                -- such as float32[64,10] 0123456789abcdef, 0.5: types, shapes, fingerprints
    words VARCHAR NOT NULL,                 -- 16 hexadecimal digits a tensor that it gave back or wrote to
    site VARCHAR NOT NULL                   -- file:line of the caller; with " backward": of the forward operation
);

-- How far a replay may be from this run, fixed when it was recorded.
-- Key: metric.
CREATE TABLE tolerance (
    metric VARCHAR NOT NULL,                -- a name; where absolute is infinite, it may be a pattern of names
    absolute DOUBLE NOT NULL                -- infinite: unjudged, that is compared and shown, and decides nothing
);

-- Which version of these tables this is: exactly one row, and the first thing that a reader looks at. Not part of the model.
-- Key: schema_version.
CREATE TABLE manifest (
    schema_version BIGINT NOT NULL
);
INSERT INTO manifest VALUES (1);
