-- The schema of datacatalog on PostgreSQL, as Go's datacatalog leaves it.
--
-- Go keeps no ledger for it: it makes what is missing, whenever it is asked. So do we, by these sections: each runs where
-- nothing of its name is there yet, whatever else a thing of that name looks like. A column is its own section for
-- databases of older versions, whose tables lack it.

-- creates: table datasets
CREATE TABLE datasets (
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    project text NOT NULL,
    name text NOT NULL,
    domain text NOT NULL,
    version text NOT NULL,
    uuid uuid,
    serialized_metadata bytea,
    PRIMARY KEY (project, name, domain, version)
);

-- creates: column datasets.created_at
ALTER TABLE datasets ADD COLUMN created_at timestamptz;

-- creates: column datasets.updated_at
ALTER TABLE datasets ADD COLUMN updated_at timestamptz;

-- creates: column datasets.deleted_at
ALTER TABLE datasets ADD COLUMN deleted_at timestamptz;

-- creates: column datasets.uuid
ALTER TABLE datasets ADD COLUMN uuid uuid;

-- creates: column datasets.serialized_metadata
ALTER TABLE datasets ADD COLUMN serialized_metadata bytea;

-- creates: index uni_datasets_uuid or index datasets_uuid_key
ALTER TABLE datasets ADD CONSTRAINT uni_datasets_uuid UNIQUE (uuid);

-- creates: index dataset_domain_idx
CREATE INDEX dataset_domain_idx ON datasets (domain);

-- creates: index dataset_name_idx
CREATE INDEX dataset_name_idx ON datasets (name);

-- creates: index dataset_version_idx
CREATE INDEX dataset_version_idx ON datasets (version);

-- creates: table partition_keys
CREATE TABLE partition_keys (
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    dataset_uuid uuid NOT NULL,
    name text NOT NULL,
    PRIMARY KEY (dataset_uuid, name)
);

-- creates: column partition_keys.created_at
ALTER TABLE partition_keys ADD COLUMN created_at timestamptz;

-- creates: column partition_keys.updated_at
ALTER TABLE partition_keys ADD COLUMN updated_at timestamptz;

-- creates: column partition_keys.deleted_at
ALTER TABLE partition_keys ADD COLUMN deleted_at timestamptz;

-- creates: table artifacts
CREATE TABLE artifacts (
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    dataset_project text NOT NULL,
    dataset_name text NOT NULL,
    dataset_domain text NOT NULL,
    dataset_version text NOT NULL,
    artifact_id text NOT NULL,
    dataset_uuid uuid,
    serialized_metadata bytea,
    PRIMARY KEY (dataset_project, dataset_name, dataset_domain, dataset_version, artifact_id)
);

-- creates: column artifacts.created_at
ALTER TABLE artifacts ADD COLUMN created_at timestamptz;

-- creates: column artifacts.updated_at
ALTER TABLE artifacts ADD COLUMN updated_at timestamptz;

-- creates: column artifacts.deleted_at
ALTER TABLE artifacts ADD COLUMN deleted_at timestamptz;

-- creates: column artifacts.dataset_uuid
ALTER TABLE artifacts ADD COLUMN dataset_uuid uuid;

-- creates: column artifacts.serialized_metadata
ALTER TABLE artifacts ADD COLUMN serialized_metadata bytea;

-- creates: index artifacts_dataset_uuid_idx
CREATE INDEX artifacts_dataset_uuid_idx ON artifacts (dataset_uuid);

-- creates: table artifact_data
CREATE TABLE artifact_data (
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    dataset_project text NOT NULL,
    dataset_name text NOT NULL,
    dataset_domain text NOT NULL,
    dataset_version text NOT NULL,
    artifact_id text NOT NULL,
    name text NOT NULL,
    location text,
    PRIMARY KEY (dataset_project, dataset_name, dataset_domain, dataset_version, artifact_id, name)
);

-- creates: column artifact_data.created_at
ALTER TABLE artifact_data ADD COLUMN created_at timestamptz;

-- creates: column artifact_data.updated_at
ALTER TABLE artifact_data ADD COLUMN updated_at timestamptz;

-- creates: column artifact_data.deleted_at
ALTER TABLE artifact_data ADD COLUMN deleted_at timestamptz;

-- creates: column artifact_data.location
ALTER TABLE artifact_data ADD COLUMN location text;

-- creates: table tags
CREATE TABLE tags (
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    dataset_project text NOT NULL,
    dataset_name text NOT NULL,
    dataset_domain text NOT NULL,
    dataset_version text NOT NULL,
    tag_name text NOT NULL,
    artifact_id text,
    dataset_uuid uuid,
    PRIMARY KEY (dataset_project, dataset_name, dataset_domain, dataset_version, tag_name)
);

-- creates: column tags.created_at
ALTER TABLE tags ADD COLUMN created_at timestamptz;

-- creates: column tags.updated_at
ALTER TABLE tags ADD COLUMN updated_at timestamptz;

-- creates: column tags.deleted_at
ALTER TABLE tags ADD COLUMN deleted_at timestamptz;

-- creates: column tags.artifact_id
ALTER TABLE tags ADD COLUMN artifact_id text;

-- creates: column tags.dataset_uuid
ALTER TABLE tags ADD COLUMN dataset_uuid uuid;

-- creates: index tags_dataset_uuid_idx
CREATE INDEX tags_dataset_uuid_idx ON tags (dataset_uuid);

-- creates: index tags_dataset_uuid_artifact_id_idx
CREATE INDEX tags_dataset_uuid_artifact_id_idx ON tags (dataset_uuid, artifact_id);

-- creates: table partitions
CREATE TABLE partitions (
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    dataset_uuid uuid NOT NULL,
    key text NOT NULL,
    value text NOT NULL,
    artifact_id text NOT NULL,
    PRIMARY KEY (dataset_uuid, key, value, artifact_id)
);

-- creates: column partitions.created_at
ALTER TABLE partitions ADD COLUMN created_at timestamptz;

-- creates: column partitions.updated_at
ALTER TABLE partitions ADD COLUMN updated_at timestamptz;

-- creates: column partitions.deleted_at
ALTER TABLE partitions ADD COLUMN deleted_at timestamptz;

-- creates: index idx_partitions_artifact_id
CREATE INDEX idx_partitions_artifact_id ON partitions (artifact_id);

-- creates: table reservations
CREATE TABLE reservations (
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    dataset_project text NOT NULL,
    dataset_name text NOT NULL,
    dataset_domain text NOT NULL,
    dataset_version text NOT NULL,
    tag_name text NOT NULL,
    owner_id text,
    expires_at timestamptz,
    serialized_metadata bytea,
    PRIMARY KEY (dataset_project, dataset_name, dataset_domain, dataset_version, tag_name)
);

-- creates: column reservations.created_at
ALTER TABLE reservations ADD COLUMN created_at timestamptz;

-- creates: column reservations.updated_at
ALTER TABLE reservations ADD COLUMN updated_at timestamptz;

-- creates: column reservations.deleted_at
ALTER TABLE reservations ADD COLUMN deleted_at timestamptz;

-- creates: column reservations.owner_id
ALTER TABLE reservations ADD COLUMN owner_id text;

-- creates: column reservations.expires_at
ALTER TABLE reservations ADD COLUMN expires_at timestamptz;

-- creates: column reservations.serialized_metadata
ALTER TABLE reservations ADD COLUMN serialized_metadata bytea;

-- What follows is ours. Go neither reads nor writes it, and rows that it left behind are of no meaning without an artifact.

-- creates: table flyte_rs_artifact_sizes
CREATE TABLE flyte_rs_artifact_sizes (
    dataset_project text NOT NULL,
    dataset_name text NOT NULL,
    dataset_domain text NOT NULL,
    dataset_version text NOT NULL,
    artifact_id text NOT NULL,
    written_at timestamptz NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (dataset_project, dataset_name, dataset_domain, dataset_version, artifact_id)
);

-- creates: table flyte_rs_retention
CREATE TABLE flyte_rs_retention (
    name text NOT NULL,
    next_run timestamptz NOT NULL,
    PRIMARY KEY (name)
);
