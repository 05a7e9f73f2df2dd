-- The manifest of one run, version 1: one DuckDB file, written once, never changed.
-- One table per class of repro/evidence/model.py, where each column is described in full; a test holds the two together.
-- Times are UTC, ISO 8601 with microseconds and a Z. Digests are 'sha256:' and 64 hexadecimal digits.

-- The run itself: exactly one row.
CREATE TABLE run (
    run_id VARCHAR NOT NULL PRIMARY KEY,
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
CREATE TABLE process (
    process_key VARCHAR NOT NULL PRIMARY KEY,  -- a role, not a pid: main, main/fork.1, main/rank0
    parent_key VARCHAR,
    pid BIGINT NOT NULL,
    argv VARCHAR[] NOT NULL,
    executable VARCHAR NOT NULL,
    python_version VARCHAR NOT NULL,
    rank BIGINT,
    world_size BIGINT,
    started_at VARCHAR NOT NULL,
    ended_at VARCHAR                        -- NULL: it did not say goodbye
);

-- Named facts about code, environment, variables, hardware, streams, randomness.
CREATE TABLE fact (
    topic VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    value VARCHAR NOT NULL,
    source VARCHAR NOT NULL,                -- observed, declared
    PRIMARY KEY (topic, name)
);

-- What should have been seen and was not.
CREATE TABLE gap (
    topic VARCHAR NOT NULL,
    subject VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    PRIMARY KEY (topic, subject, reason)
);

-- The code tree before the command started; the bytes are objects in the store.
CREATE TABLE code_file (
    path VARCHAR NOT NULL PRIMARY KEY,      -- relative to root
    kind VARCHAR NOT NULL,                  -- file, symlink
    mode BIGINT NOT NULL,                   -- permission bits
    size_bytes BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    state VARCHAR NOT NULL                  -- committed, modified, untracked, plain
);

-- The distributions installed for the recorded interpreter.
CREATE TABLE package (
    name VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    location VARCHAR NOT NULL,
    origin VARCHAR NOT NULL,                -- index, direct, editable, unknown
    direct_url VARCHAR,                     -- PEP 610, credentials removed
    record_sha256 VARCHAR,                  -- digest of its RECORD file
    PRIMARY KEY (name, location)
);

-- Files read and written.
CREATE TABLE data_file (
    path VARCHAR NOT NULL,                  -- relative to root if inside it, else absolute
    role VARCHAR NOT NULL,                  -- input, output
    category VARCHAR NOT NULL,              -- data, code, environment, system, temporary
    size_bytes BIGINT,
    sha256 VARCHAR,
    modified_at VARCHAR,
    process_key VARCHAR NOT NULL,           -- who opened it first
    library VARCHAR NOT NULL,               -- what was seen to open it
    changed_during_run BOOLEAN NOT NULL,
    PRIMARY KEY (path, role)
);

-- Calls that seeded a generator.
CREATE TABLE seed (
    process_key VARCHAR NOT NULL,
    ordinal BIGINT NOT NULL,
    function VARCHAR NOT NULL,
    argument VARCHAR NOT NULL,              -- a decimal string: seeds exceed 63 bits
    site VARCHAR NOT NULL,                  -- file:line of the caller
    PRIMARY KEY (process_key, function, ordinal)
);

-- What unseeded generators started from.
CREATE TABLE entropy (
    process_key VARCHAR NOT NULL,
    stream VARCHAR NOT NULL,
    ordinal BIGINT NOT NULL,
    value VARCHAR NOT NULL,
    site VARCHAR NOT NULL,
    PRIMARY KEY (process_key, stream, ordinal)
);

-- Digests of generator states.
CREATE TABLE generator_state (
    process_key VARCHAR NOT NULL,
    moment VARCHAR NOT NULL,                -- import, first-step, end
    generator VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL,
    PRIMARY KEY (process_key, moment, generator)
);

-- Settings that bear on the bits.
CREATE TABLE setting (
    process_key VARCHAR NOT NULL,
    moment VARCHAR NOT NULL,                -- import, first-step, end
    name VARCHAR NOT NULL,
    value VARCHAR NOT NULL,
    PRIMARY KEY (process_key, moment, name)
);

-- The trace: a DOUBLE holds every narrower float exactly.
CREATE TABLE metric (
    process_key VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    step BIGINT NOT NULL,
    value DOUBLE NOT NULL,
    dtype VARCHAR NOT NULL,
    at_seconds DOUBLE NOT NULL,             -- since the process started
    PRIMARY KEY (process_key, name, step)
);

-- How far a replay may be from this run, fixed when it was recorded.
CREATE TABLE tolerance (
    metric VARCHAR NOT NULL PRIMARY KEY,
    absolute DOUBLE NOT NULL
);

-- Which version of these tables this is: exactly one row, and the first thing that a reader looks at. Not part of the model.
CREATE TABLE manifest (
    schema_version BIGINT NOT NULL PRIMARY KEY
);
INSERT INTO manifest VALUES (1);
