-- The schema of datacatalog on SQLite: Go's tables and columns. Times are microseconds since 1970, UTC; UUIDs are text.
--
-- Each section runs where nothing of its name is there yet.

-- creates: table datasets
CREATE TABLE datasets (
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    domain TEXT NOT NULL,
    version TEXT NOT NULL,
    uuid TEXT,
    serialized_metadata BLOB,
    PRIMARY KEY (project, name, domain, version)
) STRICT;

-- creates: index uni_datasets_uuid
CREATE UNIQUE INDEX uni_datasets_uuid ON datasets (uuid);

-- creates: index dataset_domain_idx
CREATE INDEX dataset_domain_idx ON datasets (domain);

-- creates: index dataset_name_idx
CREATE INDEX dataset_name_idx ON datasets (name);

-- creates: index dataset_version_idx
CREATE INDEX dataset_version_idx ON datasets (version);

-- creates: table partition_keys
CREATE TABLE partition_keys (
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    dataset_uuid TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (dataset_uuid, name)
) STRICT;

-- creates: table artifacts
CREATE TABLE artifacts (
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    dataset_project TEXT NOT NULL,
    dataset_name TEXT NOT NULL,
    dataset_domain TEXT NOT NULL,
    dataset_version TEXT NOT NULL,
    artifact_id TEXT NOT NULL,
    dataset_uuid TEXT,
    serialized_metadata BLOB,
    PRIMARY KEY (dataset_project, dataset_name, dataset_domain, dataset_version, artifact_id)
) STRICT;

-- creates: index artifacts_dataset_uuid_idx
CREATE INDEX artifacts_dataset_uuid_idx ON artifacts (dataset_uuid);

-- creates: table artifact_data
CREATE TABLE artifact_data (
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    dataset_project TEXT NOT NULL,
    dataset_name TEXT NOT NULL,
    dataset_domain TEXT NOT NULL,
    dataset_version TEXT NOT NULL,
    artifact_id TEXT NOT NULL,
    name TEXT NOT NULL,
    location TEXT,
    PRIMARY KEY (dataset_project, dataset_name, dataset_domain, dataset_version, artifact_id, name)
) STRICT;

-- creates: table tags
CREATE TABLE tags (
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    dataset_project TEXT NOT NULL,
    dataset_name TEXT NOT NULL,
    dataset_domain TEXT NOT NULL,
    dataset_version TEXT NOT NULL,
    tag_name TEXT NOT NULL,
    artifact_id TEXT,
    dataset_uuid TEXT,
    PRIMARY KEY (dataset_project, dataset_name, dataset_domain, dataset_version, tag_name)
) STRICT;

-- creates: index tags_dataset_uuid_idx
CREATE INDEX tags_dataset_uuid_idx ON tags (dataset_uuid);

-- creates: index tags_dataset_uuid_artifact_id_idx
CREATE INDEX tags_dataset_uuid_artifact_id_idx ON tags (dataset_uuid, artifact_id);

-- creates: table partitions
CREATE TABLE partitions (
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    dataset_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    artifact_id TEXT NOT NULL,
    PRIMARY KEY (dataset_uuid, key, value, artifact_id)
) STRICT;

-- creates: index idx_partitions_artifact_id
CREATE INDEX idx_partitions_artifact_id ON partitions (artifact_id);

-- creates: table reservations
CREATE TABLE reservations (
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    dataset_project TEXT NOT NULL,
    dataset_name TEXT NOT NULL,
    dataset_domain TEXT NOT NULL,
    dataset_version TEXT NOT NULL,
    tag_name TEXT NOT NULL,
    owner_id TEXT,
    expires_at INTEGER,
    serialized_metadata BLOB,
    PRIMARY KEY (dataset_project, dataset_name, dataset_domain, dataset_version, tag_name)
) STRICT;

-- What follows is ours. Go neither reads nor writes it, and rows that it left behind are of no meaning without an artifact.

-- creates: table flyte_rs_artifact_sizes
CREATE TABLE flyte_rs_artifact_sizes (
    dataset_project TEXT NOT NULL,
    dataset_name TEXT NOT NULL,
    dataset_domain TEXT NOT NULL,
    dataset_version TEXT NOT NULL,
    artifact_id TEXT NOT NULL,
    written_at INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (dataset_project, dataset_name, dataset_domain, dataset_version, artifact_id)
) STRICT;

-- creates: table flyte_rs_retention
CREATE TABLE flyte_rs_retention (
    name TEXT NOT NULL,
    next_run INTEGER NOT NULL,
    PRIMARY KEY (name)
) STRICT;
