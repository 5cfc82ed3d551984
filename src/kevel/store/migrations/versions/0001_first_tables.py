"""First tables"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "backups",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("volume_id", sa.Text(), nullable=False),
        sa.Column("snapshot_id", sa.Text(), nullable=True),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("container", sa.Text(), nullable=True),
        sa.Column("availability_zone", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("size_gib", sa.Integer(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("checksum", sa.Text(), nullable=True),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("chunk_count", sa.Integer(), nullable=False),
        sa.Column("volume", sa.Text(), nullable=False),
        sa.Column("data_at", sa.BigInteger(), nullable=False),
        sa.Column("made", sa.Boolean(), nullable=False),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.Column("mask", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("files_id", sa.Text(), nullable=False),
        sa.Column("live", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "(live IS NULL) = (deleted_at IS NOT NULL) AND (live IS NULL OR live = 1)", name=op.f("ck_backups_live")
        ),
        sa.CheckConstraint("NOT made OR checksum IS NOT NULL", name=op.f("ck_backups_checked")),
        sa.CheckConstraint("size_gib > 0", name=op.f("ck_backups_size")),
        sa.ForeignKeyConstraint(["parent_id", "live"], ["backups.id", "backups.live"], name="fk_backups_parent"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backups")),
        sa.UniqueConstraint("id", "live", name=op.f("uq_backups_id_live")),
    )
    op.create_index(
        "ix_backups_files_id",
        "backups",
        ["files_id"],
        unique=False,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live = 1"),
    )
    op.create_index(
        "ix_backups_parent_id",
        "backups",
        ["parent_id"],
        unique=False,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live = 1"),
    )
    op.create_index(
        "ix_backups_project_id_created_at",
        "backups",
        ["project_id", "created_at"],
        unique=False,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live = 1"),
    )
    op.create_index(
        "ix_backups_volume_id",
        "backups",
        ["volume_id"],
        unique=False,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live = 1"),
    )
    op.create_table(
        "censuses",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("counted", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_censuses")),
    )
    op.create_table(
        "domains",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("extra", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_domains")),
        sa.UniqueConstraint("name", name=op.f("uq_domains_name")),
    )
    op.create_table(
        "findings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("volume_id", sa.Text(), nullable=True),
        sa.Column("server_id", sa.Text(), nullable=True),
        sa.Column("attachment_id", sa.Text(), nullable=True),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("key <> ''", name=op.f("ck_findings_named")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
        sa.UniqueConstraint("subject", "kind", "key", name=op.f("uq_findings_subject_kind_key")),
    )
    op.create_table(
        "flavors",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("ram_mib", sa.Integer(), nullable=False),
        sa.Column("disk_gib", sa.Integer(), nullable=False),
        sa.Column("ephemeral_gib", sa.Integer(), nullable=False),
        sa.Column("swap_mib", sa.Integer(), nullable=False),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("extra_specs", sa.Text(), nullable=False),
        sa.Column("rxtx_factor", sa.Float(), nullable=False),
        sa.CheckConstraint("vcpus > 0 AND ram_mib > 0 AND disk_gib >= 0", name=op.f("ck_flavors_sizes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flavors")),
        sa.UniqueConstraint("name", name=op.f("uq_flavors_name")),
    )
    op.create_table(
        "group_types",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("group_specs", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_group_types")),
    )
    op.create_index(
        "one_group_type_of_that_name",
        "group_types",
        ["name"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "host_credentials",
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("expires_at > issued_at", name=op.f("ck_host_credentials_expires")),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_host_credentials")),
    )
    op.create_index("ix_host_credentials_host", "host_credentials", ["host"], unique=False)
    op.create_table(
        "hosts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("availability_zone", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("census_wanted", sa.BigInteger(), nullable=True),
        sa.Column("place", sa.Text(), nullable=True),
        sa.Column("instance", sa.Text(), nullable=True),
        sa.Column("reach", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hosts")),
    )
    op.create_table(
        "images",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("visibility", sa.Text(), nullable=False),
        sa.Column("disk_format", sa.Text(), nullable=True),
        sa.Column("container_format", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("virtual_bytes", sa.BigInteger(), nullable=True),
        sa.Column("md5", sa.Text(), nullable=True),
        sa.Column("sha512", sa.Text(), nullable=True),
        sa.Column("min_disk_gib", sa.Integer(), nullable=False),
        sa.Column("min_ram_mib", sa.Integer(), nullable=False),
        sa.Column("protected", sa.Boolean(), nullable=False),
        sa.Column("hidden", sa.Boolean(), nullable=False),
        sa.Column("properties", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status <> 'queued' OR file IS NULL", name=op.f("ck_images_queued_has_no_bytes")),
        sa.CheckConstraint("status <> 'saving' OR file IS NOT NULL", name=op.f("ck_images_saving_names_its_file")),
        sa.CheckConstraint(
            "status IN ('queued', 'saving', 'active', 'deactivated', 'deleted')", name=op.f("ck_images_status")
        ),
        sa.CheckConstraint(
            "status NOT IN ('active', 'deactivated') OR (file IS NOT NULL AND size_bytes IS NOT NULL AND md5 IS NOT NULL AND sha512 IS NOT NULL AND disk_format IS NOT NULL AND container_format IS NOT NULL)",
            name=op.f("ck_images_active_is_complete"),
        ),
        sa.CheckConstraint(
            "visibility IN ('public', 'private', 'shared', 'community')", name=op.f("ck_images_visibility")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
        sa.UniqueConstraint("file", name=op.f("uq_images_file")),
    )
    op.create_index(op.f("ix_images_name"), "images", ["name"], unique=False)
    op.create_index(op.f("ix_images_project_id"), "images", ["project_id"], unique=False)
    op.create_table(
        "join_tokens",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("key_digest", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_join_tokens")),
    )
    op.create_index("ix_join_tokens_host", "join_tokens", ["host"], unique=False)
    op.create_table(
        "journal",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("volume_id", sa.Text(), nullable=True),
        sa.Column("server_id", sa.Text(), nullable=True),
        sa.Column("attachment_id", sa.Text(), nullable=True),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("took_us", sa.BigInteger(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_journal")),
    )
    op.create_index("ix_journal_attachment_id", "journal", ["attachment_id"], unique=False)
    op.create_index("ix_journal_server_id", "journal", ["server_id"], unique=False)
    op.create_index("ix_journal_volume_id", "journal", ["volume_id"], unique=False)
    op.create_table(
        "kept_answers",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kept_answers")),
        sa.UniqueConstraint("project_id", "key", name=op.f("uq_kept_answers_project_id_key")),
    )
    op.create_index("ix_kept_answers_created_at", "kept_answers", ["created_at"], unique=False)
    op.create_table(
        "keypairs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('ssh', 'x509')", name=op.f("ck_keypairs_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keypairs")),
        sa.UniqueConstraint("user_id", "name", name=op.f("uq_keypairs_user_id_name")),
    )
    op.create_table(
        "messages",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("resource_type", sa.Text(), nullable=False),
        sa.Column("resource_uuid", sa.Text(), nullable=False),
        sa.Column("action_id", sa.Text(), nullable=False),
        sa.Column("detail_id", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("expires_at > created_at", name=op.f("ck_messages_expires")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
    )
    op.create_index("ix_messages_expires_at", "messages", ["expires_at"], unique=False)
    op.create_index("ix_messages_project_id_created_at", "messages", ["project_id", "created_at"], unique=False)
    op.create_table(
        "qos_specs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("specs", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("consumer IN ('front-end', 'back-end', 'both')", name=op.f("ck_qos_specs_consumer")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_qos_specs")),
    )
    op.create_index("one_qos_specs_of_that_name", "qos_specs", ["name"], unique=True)
    op.create_table(
        "quota_limits",
        sa.Column("owner_kind", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("volume_type_id", sa.Text(), nullable=False),
        sa.Column("upper_limit", sa.Integer(), nullable=False),
        sa.CheckConstraint("(owner = '') = (owner_kind = 'configuration')", name=op.f("ck_quota_limits_owner")),
        sa.CheckConstraint(
            "owner_kind IN ('user', 'project', 'class', 'configuration')", name=op.f("ck_quota_limits_owner_kind")
        ),
        sa.CheckConstraint(
            "resource IN ('per_volume_gigabytes', 'volumes', 'snapshots', 'backups', 'groups', 'gigabytes', 'backup_gigabytes', 'instances', 'cores', 'ram', 'metadata_items', 'key_pairs', 'server_groups', 'server_group_members', 'injected_files', 'injected_file_content_bytes', 'injected_file_path_bytes', 'fixed_ips', 'floating_ips', 'security_groups', 'security_group_rules')",
            name=op.f("ck_quota_limits_resource"),
        ),
        sa.CheckConstraint(
            "volume_type_id = '' OR resource IN ('volumes', 'gigabytes', 'snapshots')",
            name=op.f("ck_quota_limits_typed"),
        ),
        sa.CheckConstraint("upper_limit >= -1", name=op.f("ck_quota_limits_upper_limit")),
        sa.PrimaryKeyConstraint("owner_kind", "owner", "resource", "volume_type_id", name=op.f("pk_quota_limits")),
    )
    op.create_table(
        "regions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("parent_region_id", sa.Text(), nullable=True),
        sa.Column("extra", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["parent_region_id"], ["regions.id"], name=op.f("fk_regions_parent_region_id_regions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_regions")),
    )
    op.create_table(
        "roles",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("extra", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_roles")),
        sa.UniqueConstraint("name", name=op.f("uq_roles_name")),
    )
    op.create_table(
        "server_groups",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("per_host_max", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "per_host_max IS NULL OR (policy = 'anti-affinity' AND per_host_max > 0)",
            name=op.f("ck_server_groups_per_host_max"),
        ),
        sa.CheckConstraint(
            "policy IN ('affinity', 'anti-affinity', 'soft-affinity', 'soft-anti-affinity')",
            name=op.f("ck_server_groups_policy"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_server_groups")),
    )
    op.create_index("ix_server_groups_project_id", "server_groups", ["project_id"], unique=False)
    op.create_table(
        "services",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("extra", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_services")),
    )
    op.create_table(
        "transfers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("volume_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("no_snapshots", sa.Boolean(), nullable=False),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfers")),
        sa.UniqueConstraint("id", "volume_id", name=op.f("uq_transfers_id_volume_id")),
    )
    op.create_table(
        "volume_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("key_bits", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("destroyed_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("(sealed IS NULL) = (destroyed_at IS NOT NULL)", name=op.f("ck_volume_keys_destroyed")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_volume_keys")),
    )
    op.create_table(
        "volume_services",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("binary", sa.Text(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("frozen", sa.Boolean(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("disabled OR NOT frozen", name=op.f("ck_volume_services_frozen")),
        sa.CheckConstraint("disabled OR disabled_reason IS NULL", name=op.f("ck_volume_services_reason")),
        sa.PrimaryKeyConstraint("host", "binary", name=op.f("pk_volume_services")),
    )
    op.create_table(
        "writers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("batch >= 0", name=op.f("ck_writers_batch")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_writers")),
    )
    op.create_table(
        "endpoints",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("service_id", sa.Text(), nullable=False),
        sa.Column("interface", sa.Text(), nullable=False),
        sa.Column("region_id", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("extra", sa.Text(), nullable=False),
        sa.CheckConstraint("interface IN ('public', 'internal', 'admin')", name=op.f("ck_endpoints_interface")),
        sa.ForeignKeyConstraint(["region_id"], ["regions.id"], name=op.f("fk_endpoints_region_id_regions")),
        sa.ForeignKeyConstraint(
            ["service_id"], ["services.id"], name=op.f("fk_endpoints_service_id_services"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoints")),
    )
    op.create_index(op.f("ix_endpoints_service_id"), "endpoints", ["service_id"], unique=False)
    op.create_table(
        "flavor_access",
        sa.Column("flavor_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["flavor_id"], ["flavors.id"], name=op.f("fk_flavor_access_flavor_id_flavors")),
        sa.PrimaryKeyConstraint("flavor_id", "project_id", name=op.f("pk_flavor_access")),
    )
    op.create_table(
        "groups",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("group_type_id", sa.Text(), nullable=False),
        sa.Column("volume_type_ids", sa.Text(), nullable=False),
        sa.Column("availability_zone", sa.Text(), nullable=False),
        sa.Column("source_group_id", sa.Text(), nullable=True),
        sa.Column("group_snapshot_id", sa.Text(), nullable=True),
        sa.Column("mask", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=True),
        sa.Column("deleting_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["group_type_id"], ["group_types.id"], name=op.f("fk_groups_group_type_id_group_types")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_groups")),
    )
    op.create_index("ix_groups_project_id_created_at", "groups", ["project_id", "created_at"], unique=False)
    op.create_table(
        "projects",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("domain_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("extra", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name=op.f("fk_projects_domain_id_domains")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("domain_id", "name", name=op.f("uq_projects_domain_id_name")),
    )
    op.create_table(
        "servers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("flavor", sa.Text(), nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("availability_zone", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("goal", sa.Text(), nullable=False),
        sa.Column("goal_revision", sa.Integer(), nullable=False),
        sa.Column("goal_request_id", sa.Text(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=False),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("wanted_boot", sa.Integer(), nullable=False),
        sa.Column("boot", sa.Integer(), nullable=False),
        sa.Column("boot_kind", sa.Text(), nullable=False),
        sa.Column("key_name", sa.Text(), nullable=True),
        sa.Column("locked", sa.Boolean(), nullable=False),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=True),
        sa.Column("launched_at", sa.BigInteger(), nullable=True),
        sa.Column("terminated_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("extras", sa.Text(), nullable=False),
        sa.Column("wanted_shape", sa.Integer(), nullable=False),
        sa.Column("shape", sa.Integer(), nullable=False),
        sa.Column("host_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("deleted_at IS NULL OR goal = 'deleted'", name=op.f("ck_servers_deleted_on_purpose")),
        sa.CheckConstraint(
            "goal IN ('running', 'paused', 'suspended', 'stopped', 'shelved', 'offloaded', 'deleted')",
            name=op.f("ck_servers_goal"),
        ),
        sa.CheckConstraint(
            "rung != 1 OR goal IN ('offloaded', 'deleted')", name=op.f("ck_servers_offloaded_on_purpose")
        ),
        sa.CheckConstraint("(deleted_at IS NULL) = (rung > 0)", name=op.f("ck_servers_tombstone")),
        sa.CheckConstraint("boot <= wanted_boot", name=op.f("ck_servers_boot")),
        sa.CheckConstraint("rung BETWEEN 0 AND 6", name=op.f("ck_servers_rung")),
        sa.CheckConstraint("shape <= wanted_shape", name=op.f("ck_servers_shape")),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name=op.f("fk_servers_host_hosts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_servers")),
    )
    op.create_index("ix_servers_host_version", "servers", ["host", "host_version"], unique=False)
    op.create_index("ix_servers_project_id_created_at", "servers", ["project_id", "created_at"], unique=False)
    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("domain_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("default_project_id", sa.Text(), nullable=True),
        sa.Column("extra", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name=op.f("fk_users_domain_id_domains")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("domain_id", "name", name=op.f("uq_users_domain_id_name")),
    )
    op.create_table(
        "volume_types",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("extra_specs", sa.Text(), nullable=False),
        sa.Column("qos_specs_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["qos_specs_id"], ["qos_specs.id"], name=op.f("fk_volume_types_qos_specs_id_qos_specs")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_volume_types")),
    )
    op.create_index(
        "one_type_of_that_name",
        "volume_types",
        ["name"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "application_credentials",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("unrestricted", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_application_credentials_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_application_credentials_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_application_credentials")),
        sa.UniqueConstraint("user_id", "name", name=op.f("uq_application_credentials_user_id_name")),
    )
    op.create_index(
        op.f("ix_application_credentials_project_id"), "application_credentials", ["project_id"], unique=False
    )
    op.create_table(
        "default_types",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("volume_type_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["volume_type_id"], ["volume_types.id"], name=op.f("fk_default_types_volume_type_id_volume_types")
        ),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_default_types")),
    )
    op.create_table(
        "group_snapshots",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("mask", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=True),
        sa.Column("deleting_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_group_snapshots_group_id_groups")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_group_snapshots")),
    )
    op.create_index("ix_group_snapshots_group_id", "group_snapshots", ["group_id"], unique=False)
    op.create_index(
        "ix_group_snapshots_project_id_created_at", "group_snapshots", ["project_id", "created_at"], unique=False
    )
    op.create_table(
        "role_assignments",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("scope_id", sa.Text(), nullable=False),
        sa.Column("role_id", sa.Text(), nullable=False),
        sa.CheckConstraint("scope IN ('project', 'domain', 'system')", name=op.f("ck_role_assignments_scope")),
        sa.ForeignKeyConstraint(
            ["role_id"], ["roles.id"], name=op.f("fk_role_assignments_role_id_roles"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_role_assignments_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "scope", "scope_id", "role_id", name=op.f("pk_role_assignments")),
    )
    op.create_index(op.f("ix_role_assignments_role_id"), "role_assignments", ["role_id"], unique=False)
    op.create_index("ix_role_assignments_scope", "role_assignments", ["scope", "scope_id"], unique=False)
    op.create_table(
        "server_actions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("server_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("event", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("details", sa.Text(), nullable=True),
        sa.CheckConstraint("result IN ('Success', 'Error')", name=op.f("ck_server_actions_result")),
        sa.CheckConstraint("(finished_at IS NULL) = (result IS NULL)", name=op.f("ck_server_actions_finished")),
        sa.ForeignKeyConstraint(["server_id"], ["servers.id"], name=op.f("fk_server_actions_server_id_servers")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_server_actions")),
    )
    op.create_index(
        "ix_server_actions_resizes",
        "server_actions",
        ["id"],
        unique=False,
        sqlite_where=sa.text("action = 'resize'"),
        postgresql_where=sa.text("action = 'resize'"),
    )
    op.create_index(
        "ix_server_actions_server_id_request_id", "server_actions", ["server_id", "request_id"], unique=False
    )
    op.create_index("ix_server_actions_subject_id", "server_actions", ["subject_id"], unique=False)
    op.create_index(
        "ix_server_actions_unfinished",
        "server_actions",
        ["started_at"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "server_group_members",
        sa.Column("server_id", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"], ["server_groups.id"], name=op.f("fk_server_group_members_group_id_server_groups")
        ),
        sa.ForeignKeyConstraint(["server_id"], ["servers.id"], name=op.f("fk_server_group_members_server_id_servers")),
        sa.PrimaryKeyConstraint("server_id", name=op.f("pk_server_group_members")),
    )
    op.create_index("ix_server_group_members_group_id", "server_group_members", ["group_id"], unique=False)
    op.create_table(
        "type_access",
        sa.Column("volume_type_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["volume_type_id"], ["volume_types.id"], name=op.f("fk_type_access_volume_type_id_volume_types")
        ),
        sa.PrimaryKeyConstraint("volume_type_id", "project_id", name=op.f("pk_type_access")),
    )
    op.create_index("ix_type_access_project_id", "type_access", ["project_id"], unique=False)
    op.create_table(
        "type_encryptions",
        sa.Column("volume_type_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("control_location", sa.Text(), nullable=False),
        sa.Column("cipher", sa.Text(), nullable=True),
        sa.Column("key_size", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "control_location IN ('front-end', 'back-end')", name=op.f("ck_type_encryptions_control_location")
        ),
        sa.CheckConstraint("key_size >= 0", name=op.f("ck_type_encryptions_key_size")),
        sa.ForeignKeyConstraint(
            ["volume_type_id"], ["volume_types.id"], name=op.f("fk_type_encryptions_volume_type_id_volume_types")
        ),
        sa.PrimaryKeyConstraint("volume_type_id", name=op.f("pk_type_encryptions")),
    )
    op.create_table(
        "volumes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("size_gib", sa.Integer(), nullable=False),
        sa.Column("volume_type_id", sa.Text(), nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("availability_zone", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("bootable", sa.Boolean(), nullable=False),
        sa.Column("readonly", sa.Boolean(), nullable=False),
        sa.Column("readonly_asked", sa.Boolean(), nullable=False),
        sa.Column("multiattach", sa.Boolean(), nullable=False),
        sa.Column("snapshot_id", sa.Text(), nullable=True),
        sa.Column("source_volume_id", sa.Text(), nullable=True),
        sa.Column("image_metadata", sa.Text(), nullable=True),
        sa.Column("made", sa.Boolean(), nullable=False),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.Column("mask", sa.Text(), nullable=True),
        sa.Column("migration_status", sa.Text(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=True),
        sa.Column("transfer_id", sa.Text(), nullable=True),
        sa.Column("encryption_key_id", sa.Text(), nullable=True),
        sa.Column("unmanaged", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("live", sa.Integer(), nullable=True),
        sa.CheckConstraint("(format = 'luks') = (encryption_key_id IS NOT NULL)", name=op.f("ck_volumes_encrypted")),
        sa.CheckConstraint("NOT multiattach OR format = 'raw'", name=op.f("ck_volumes_shared_is_raw")),
        sa.CheckConstraint("format IN ('raw', 'qcow2', 'luks')", name=op.f("ck_volumes_format")),
        sa.CheckConstraint("migration_status IN ('success', 'error')", name=op.f("ck_volumes_migration_status")),
        sa.CheckConstraint(
            "(live IS NULL) = (deleted_at IS NOT NULL) AND (live IS NULL OR live = 1)", name=op.f("ck_volumes_live")
        ),
        sa.CheckConstraint("NOT unmanaged OR live IS NULL", name=op.f("ck_volumes_unmanaged")),
        sa.CheckConstraint("size_gib > 0", name=op.f("ck_volumes_size")),
        sa.CheckConstraint("transfer_id IS NULL OR live IS NOT NULL", name=op.f("ck_volumes_transfer_of_live")),
        sa.ForeignKeyConstraint(
            ["encryption_key_id"], ["volume_keys.id"], name=op.f("fk_volumes_encryption_key_id_volume_keys")
        ),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_volumes_group_id_groups")),
        sa.ForeignKeyConstraint(
            ["transfer_id", "id"],
            ["transfers.id", "transfers.volume_id"],
            name=op.f("fk_volumes_transfer_id_id_transfers"),
        ),
        sa.ForeignKeyConstraint(
            ["volume_type_id"], ["volume_types.id"], name=op.f("fk_volumes_volume_type_id_volume_types")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_volumes")),
        sa.UniqueConstraint("id", "live", "multiattach", name=op.f("uq_volumes_id_live_multiattach")),
        sa.UniqueConstraint("id", "live", name=op.f("uq_volumes_id_live")),
    )
    op.create_index(
        "ix_volumes_backend_size_gib",
        "volumes",
        ["backend", "size_gib"],
        unique=False,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live = 1"),
    )
    op.create_index(
        "ix_volumes_created_at",
        "volumes",
        ["created_at"],
        unique=False,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live = 1"),
    )
    op.create_index(
        "ix_volumes_fault",
        "volumes",
        ["id"],
        unique=False,
        sqlite_where=sa.text("fault IS NOT NULL"),
        postgresql_where=sa.text("fault IS NOT NULL"),
    )
    op.create_index(
        "ix_volumes_group_id",
        "volumes",
        ["group_id"],
        unique=False,
        sqlite_where=sa.text("group_id IS NOT NULL"),
        postgresql_where=sa.text("group_id IS NOT NULL"),
    )
    op.create_index(
        "ix_volumes_mask",
        "volumes",
        ["mask"],
        unique=False,
        sqlite_where=sa.text("mask IS NOT NULL"),
        postgresql_where=sa.text("mask IS NOT NULL"),
    )
    op.create_index(
        "ix_volumes_project_id_created_at",
        "volumes",
        ["project_id", "created_at"],
        unique=False,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live = 1"),
    )
    op.create_index(
        "ix_volumes_project_id_name",
        "volumes",
        ["project_id", "name"],
        unique=False,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live = 1"),
    )
    op.create_index(
        "ix_volumes_transfer_id",
        "volumes",
        ["transfer_id"],
        unique=False,
        sqlite_where=sa.text("transfer_id IS NOT NULL"),
        postgresql_where=sa.text("transfer_id IS NOT NULL"),
    )
    op.create_table(
        "claims",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("volume_id", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("live", sa.Integer(), nullable=True),
        sa.Column("claimed_at", sa.BigInteger(), nullable=False),
        sa.Column("released_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(live IS NULL) = (released_at IS NOT NULL) AND (live IS NULL OR live = 1)", name=op.f("ck_claims_live")
        ),
        sa.ForeignKeyConstraint(
            ["volume_id", "live", "shared"],
            ["volumes.id", "volumes.live", "volumes.multiattach"],
            name="fk_claims_volume",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_claims")),
        sa.UniqueConstraint("id", "live", "volume_id", name=op.f("uq_claims_id_live_volume_id")),
    )
    op.create_index(
        "one_claim_per_holder",
        "claims",
        ["volume_id", "holder"],
        unique=True,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live = 1"),
    )
    op.create_index(
        "one_holder",
        "claims",
        ["volume_id"],
        unique=True,
        sqlite_where=sa.text("live = 1 AND NOT shared"),
        postgresql_where=sa.text("live = 1 AND NOT shared"),
    )
    op.create_table(
        "operations",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("volume_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reads", sa.Text(), nullable=True),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("args", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('creating', 'deleting', 'extending', 'downloading', 'uploading', 'retyping', 'migrating', 'reverting', 'backing-up', 'restoring-backup', 'restoring')",
            name=op.f("ck_operations_kind"),
        ),
        sa.CheckConstraint(
            "subject != 'volume' OR (volume_id IS NOT NULL AND subject_id = volume_id)",
            name=op.f("ck_operations_volume"),
        ),
        sa.CheckConstraint("subject IN ('volume', 'snapshot', 'backup', 'image')", name=op.f("ck_operations_subject")),
        sa.CheckConstraint("progress BETWEEN 0 AND 100", name=op.f("ck_operations_progress")),
        sa.ForeignKeyConstraint(["volume_id"], ["volumes.id"], name=op.f("fk_operations_volume_id_volumes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
    )
    op.create_index(
        "ix_operations_pool_moves",
        "operations",
        ["subject_id"],
        unique=False,
        sqlite_where=sa.text("kind IN ('migrating', 'retyping')"),
        postgresql_where=sa.text("kind IN ('migrating', 'retyping')"),
    )
    op.create_index(
        "ix_operations_reads",
        "operations",
        ["reads"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(
        "one_operation",
        "operations",
        ["subject", "subject_id"],
        unique=True,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "snapshots",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("volume_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("size_gib", sa.Integer(), nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("group_snapshot_id", sa.Text(), nullable=True),
        sa.Column("bootable", sa.Boolean(), nullable=False),
        sa.Column("image_metadata", sa.Text(), nullable=True),
        sa.Column("unmanaged", sa.Boolean(), nullable=False),
        sa.Column("progress_said", sa.Text(), nullable=True),
        sa.Column("made", sa.Boolean(), nullable=False),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.Column("mask", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("live", sa.Integer(), nullable=True),
        sa.CheckConstraint("format IN ('raw', 'qcow2', 'luks')", name=op.f("ck_snapshots_format")),
        sa.CheckConstraint(
            "(live IS NULL) = (deleted_at IS NOT NULL) AND (live IS NULL OR live = 1)", name=op.f("ck_snapshots_live")
        ),
        sa.CheckConstraint("NOT unmanaged OR live IS NULL", name=op.f("ck_snapshots_unmanaged")),
        sa.CheckConstraint("size_gib > 0", name=op.f("ck_snapshots_size")),
        sa.ForeignKeyConstraint(
            ["group_snapshot_id"], ["group_snapshots.id"], name=op.f("fk_snapshots_group_snapshot_id_group_snapshots")
        ),
        sa.ForeignKeyConstraint(["volume_id", "live"], ["volumes.id", "volumes.live"], name="fk_snapshots_volume"),
        sa.ForeignKeyConstraint(["volume_id"], ["volumes.id"], name=op.f("fk_snapshots_volume_id_volumes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshots")),
    )
    op.create_index(
        "ix_snapshots_group_snapshot_id",
        "snapshots",
        ["group_snapshot_id"],
        unique=False,
        sqlite_where=sa.text("group_snapshot_id IS NOT NULL"),
        postgresql_where=sa.text("group_snapshot_id IS NOT NULL"),
    )
    op.create_index(
        "ix_snapshots_project_id_created_at",
        "snapshots",
        ["project_id", "created_at"],
        unique=False,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live = 1"),
    )
    op.create_index(
        "ix_snapshots_volume_id",
        "snapshots",
        ["volume_id"],
        unique=False,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live = 1"),
    )
    op.create_table(
        "tokens",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("scope_id", sa.Text(), nullable=True),
        sa.Column("methods", sa.Text(), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("application_credential_id", sa.Text(), nullable=True),
        sa.Column("audit_ids", sa.Text(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(scope = 'unscoped') = (scope_id IS NULL)", name=op.f("ck_tokens_scope_id")),
        sa.CheckConstraint("scope IN ('project', 'domain', 'system', 'unscoped')", name=op.f("ck_tokens_scope")),
        sa.ForeignKeyConstraint(
            ["application_credential_id"],
            ["application_credentials.id"],
            name=op.f("fk_tokens_application_credential_id_application_credentials"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tokens_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_tokens")),
    )
    op.create_index(op.f("ix_tokens_application_credential_id"), "tokens", ["application_credential_id"], unique=False)
    op.create_index(op.f("ix_tokens_expires_at"), "tokens", ["expires_at"], unique=False)
    op.create_index(op.f("ix_tokens_scope_id"), "tokens", ["scope_id"], unique=False)
    op.create_index(op.f("ix_tokens_user_id"), "tokens", ["user_id"], unique=False)
    op.create_table(
        "attachments",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("claim_id", sa.Text(), nullable=False),
        sa.Column("volume_id", sa.Text(), nullable=False),
        sa.Column("server_id", sa.Text(), nullable=True),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("goal", sa.Text(), nullable=False),
        sa.Column("goal_revision", sa.Integer(), nullable=False),
        sa.Column("goal_request_id", sa.Text(), nullable=False),
        sa.Column("goal_by", sa.Text(), nullable=False),
        sa.Column("goal_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=False),
        sa.Column("established", sa.Boolean(), nullable=False),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("unit", sa.Integer(), nullable=True),
        sa.Column("tag", sa.Text(), nullable=True),
        sa.Column("delete_on_termination", sa.Boolean(), nullable=False),
        sa.Column("boot_index", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("attached_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=True),
        sa.Column("instance_id", sa.Text(), nullable=True),
        sa.Column("consumer_host", sa.Text(), nullable=True),
        sa.Column("mode", sa.Text(), nullable=True),
        sa.Column("service_user_id", sa.Text(), nullable=True),
        sa.Column("aside", sa.Boolean(), nullable=False),
        sa.Column("serial", sa.Text(), nullable=True),
        sa.Column("live", sa.Integer(), nullable=True),
        sa.CheckConstraint("closed_at IS NULL OR goal = 'detached'", name=op.f("ck_attachments_closed_on_purpose")),
        sa.CheckConstraint("goal IN ('attached', 'detached')", name=op.f("ck_attachments_goal")),
        sa.CheckConstraint("goal_by IN ('user', 'rollback', 'refusal', 'server')", name=op.f("ck_attachments_goal_by")),
        sa.CheckConstraint("mode IN ('rw', 'ro')", name=op.f("ck_attachments_mode")),
        sa.CheckConstraint(
            "stage IN ('reserved', 'attaching', 'attached', 'detaching')", name=op.f("ck_attachments_stage")
        ),
        sa.CheckConstraint(
            "(live IS NULL) = (closed_at IS NOT NULL) AND (live IS NULL OR live = 1)", name=op.f("ck_attachments_live")
        ),
        sa.CheckConstraint("(stage IS NULL) = (origin IS NULL)", name=op.f("ck_attachments_origin")),
        sa.CheckConstraint("(stage IS NULL) = (server_id IS NOT NULL)", name=op.f("ck_attachments_managed")),
        sa.CheckConstraint(
            "NOT aside OR (stage IS NULL AND boot_index IS NULL AND serial IS NULL)", name=op.f("ck_attachments_aside")
        ),
        sa.CheckConstraint("boot_index >= 0", name=op.f("ck_attachments_boot_index")),
        sa.CheckConstraint(
            "stage IS NOT NULL OR (device IS NOT NULL AND unit IS NOT NULL)", name=op.f("ck_attachments_place")
        ),
        sa.ForeignKeyConstraint(
            ["claim_id", "live", "volume_id"],
            ["claims.id", "claims.live", "claims.volume_id"],
            name="fk_attachments_claim",
            initially="IMMEDIATE",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(["server_id"], ["servers.id"], name=op.f("fk_attachments_server_id_servers")),
        sa.ForeignKeyConstraint(["volume_id"], ["volumes.id"], name=op.f("fk_attachments_volume_id_volumes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachments")),
        sa.UniqueConstraint("id", "live", "volume_id", name=op.f("uq_attachments_id_live_volume_id")),
    )
    op.create_index("ix_attachments_claim_id_live", "attachments", ["claim_id", "live"], unique=False)
    op.create_index("ix_attachments_instance_id", "attachments", ["instance_id"], unique=False)
    op.create_index(
        "ix_attachments_project_id_created_at",
        "attachments",
        ["project_id", "created_at"],
        unique=False,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live = 1"),
    )
    op.create_index("ix_attachments_server_id_live", "attachments", ["server_id", "live"], unique=False)
    op.create_index("ix_attachments_volume_id_live", "attachments", ["volume_id", "live"], unique=False)
    op.create_index(
        "one_attachment_per_claim",
        "attachments",
        ["claim_id"],
        unique=True,
        sqlite_where=sa.text("live = 1 AND stage IS NULL"),
        postgresql_where=sa.text("live = 1 AND stage IS NULL"),
    )
    op.create_index(
        "one_boot_index",
        "attachments",
        ["server_id", "boot_index"],
        unique=True,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live = 1"),
    )
    op.create_index(
        "one_device",
        "attachments",
        ["server_id", "device"],
        unique=True,
        sqlite_where=sa.text("live = 1 AND NOT aside"),
        postgresql_where=sa.text("live = 1 AND NOT aside"),
    )
    op.create_index(
        "one_unit",
        "attachments",
        ["server_id", "unit"],
        unique=True,
        sqlite_where=sa.text("live = 1 AND NOT aside"),
        postgresql_where=sa.text("live = 1 AND NOT aside"),
    )
    op.create_table(
        "paths",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("attachment_id", sa.Text(), nullable=False),
        sa.Column("volume_id", sa.Text(), nullable=False),
        sa.Column("server_id", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("hands", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("connection_info", sa.LargeBinary(), nullable=True),
        sa.Column("plugged_bytes", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("seen", sa.Text(), nullable=True),
        sa.Column("connector", sa.Text(), nullable=True),
        sa.Column("dropped", sa.Boolean(), nullable=False),
        sa.Column("live", sa.Integer(), nullable=True),
        sa.Column("host_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("agent IS NOT NULL OR hands = 'control'", name=op.f("ck_paths_external_hands")),
        sa.CheckConstraint("hands = 'control' OR rung >= 2", name=op.f("ck_paths_host_hands")),
        sa.CheckConstraint("hands = 'host' OR rung <= 2", name=op.f("ck_paths_control_hands")),
        sa.CheckConstraint("hands IN ('control', 'host')", name=op.f("ck_paths_hands")),
        sa.CheckConstraint(
            "(agent IS NULL) = (server_id IS NULL) AND (agent IS NULL OR agent = host)", name=op.f("ck_paths_agent")
        ),
        sa.CheckConstraint("(connector IS NULL) = (agent IS NOT NULL)", name=op.f("ck_paths_connector")),
        sa.CheckConstraint("(live IS NULL) = (rung = 0) AND (live IS NULL OR live = 1)", name=op.f("ck_paths_live")),
        sa.CheckConstraint("agent IS NULL OR NOT dropped", name=op.f("ck_paths_dropped")),
        sa.CheckConstraint("rung < 2 OR connection_info IS NOT NULL", name=op.f("ck_paths_complete")),
        sa.CheckConstraint("rung > 0 OR connection_info IS NULL", name=op.f("ck_paths_nothing_left")),
        sa.CheckConstraint("rung BETWEEN 0 AND 4", name=op.f("ck_paths_rung")),
        sa.ForeignKeyConstraint(["agent"], ["hosts.name"], name=op.f("fk_paths_agent_hosts")),
        sa.ForeignKeyConstraint(
            ["attachment_id", "live", "volume_id"],
            ["attachments.id", "attachments.live", "attachments.volume_id"],
            name="fk_paths_attachment",
            initially="IMMEDIATE",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(["server_id"], ["servers.id"], name=op.f("fk_paths_server_id_servers")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_paths")),
        sa.UniqueConstraint("volume_id", "generation", name=op.f("uq_paths_volume_id_generation")),
    )
    op.create_index("ix_paths_host_version", "paths", ["host", "host_version"], unique=False)
    op.create_index("ix_paths_server_id", "paths", ["server_id"], unique=False)
    op.create_index(
        "one_path",
        "paths",
        ["attachment_id"],
        unique=True,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live = 1"),
    )
    op.create_table(
        "swaps",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("attachment_id", sa.Text(), nullable=False),
        sa.Column("aside_id", sa.Text(), nullable=False),
        sa.Column("server_id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("old_volume_id", sa.Text(), nullable=False),
        sa.Column("new_volume_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("done_bytes", sa.BigInteger(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("host_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(state = 'failed') = (reason IS NOT NULL)", name=op.f("ck_swaps_reason")),
        sa.CheckConstraint(
            "(state IN ('copying', 'pivoting')) = (finished_at IS NULL)", name=op.f("ck_swaps_finished")
        ),
        sa.CheckConstraint(
            "state IN ('copying', 'pivoting', 'swapped', 'failed', 'cancelled')", name=op.f("ck_swaps_state")
        ),
        sa.ForeignKeyConstraint(["aside_id"], ["attachments.id"], name=op.f("fk_swaps_aside_id_attachments")),
        sa.ForeignKeyConstraint(["attachment_id"], ["attachments.id"], name=op.f("fk_swaps_attachment_id_attachments")),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name=op.f("fk_swaps_host_hosts")),
        sa.ForeignKeyConstraint(["new_volume_id"], ["volumes.id"], name=op.f("fk_swaps_new_volume_id_volumes")),
        sa.ForeignKeyConstraint(["old_volume_id"], ["volumes.id"], name=op.f("fk_swaps_old_volume_id_volumes")),
        sa.ForeignKeyConstraint(["server_id"], ["servers.id"], name=op.f("fk_swaps_server_id_servers")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_swaps")),
    )
    op.create_index("ix_swaps_aside_id", "swaps", ["aside_id"], unique=False)
    op.create_index("ix_swaps_attachment_id", "swaps", ["attachment_id"], unique=False)
    op.create_index("ix_swaps_host_version", "swaps", ["host", "host_version"], unique=False)
    op.create_index(
        "one_swap",
        "swaps",
        ["attachment_id"],
        unique=True,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "copies",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("path_id", sa.Text(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column("server_id", sa.Text(), nullable=False),
        sa.Column("image_format", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("target_path", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("done_bytes", sa.BigInteger(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("live", sa.Integer(), nullable=True),
        sa.Column("host_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(state = 'failed') = (reason IS NOT NULL)", name=op.f("ck_copies_reason")),
        sa.CheckConstraint("live IS NOT NULL OR state != 'wanted'", name=op.f("ck_copies_wanted_is_live")),
        sa.CheckConstraint(
            "live IS NULL OR (live = 1 AND state IN ('wanted', 'dropped'))", name=op.f("ck_copies_live")
        ),
        sa.CheckConstraint("state IN ('wanted', 'done', 'failed', 'dropped')", name=op.f("ck_copies_state")),
        sa.CheckConstraint("(path_id IS NULL) = (generation IS NULL)", name=op.f("ck_copies_generation")),
        sa.CheckConstraint("(path_id IS NULL) = (image_format IS NOT NULL)", name=op.f("ck_copies_disk")),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name=op.f("fk_copies_host_hosts")),
        sa.ForeignKeyConstraint(["path_id"], ["paths.id"], name=op.f("fk_copies_path_id_paths")),
        sa.ForeignKeyConstraint(["server_id"], ["servers.id"], name=op.f("fk_copies_server_id_servers")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_copies")),
    )
    op.create_index("ix_copies_host_version", "copies", ["host", "host_version"], unique=False)
    op.create_index("ix_copies_subject_id", "copies", ["subject_id"], unique=False)
