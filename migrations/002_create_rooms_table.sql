-- The places where people chat. last_seq numbers a room's messages (004): who posts holds the room's row,
-- so numbers become visible in their order and "everything since" misses none.
-- Lock: SHARE ROW EXCLUSIVE on users, for the foreign key. Undone by dropping the table, with every room in it.
-- depends: 001_create_users_table
-- The lengths are part of the application's contract.
-- squawk-ignore-file prefer-text-field

SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '30s';

CREATE TABLE rooms (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    name varchar(100) NOT NULL,
    description varchar(500),
    is_private boolean NOT NULL DEFAULT false,
    created_by uuid,
    last_seq bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT rooms_pkey PRIMARY KEY (id),
    CONSTRAINT rooms_created_by_fkey FOREIGN KEY (created_by) REFERENCES users (id) ON DELETE SET NULL,
    CONSTRAINT rooms_name_not_empty CHECK (length(name) > 0),
    CONSTRAINT rooms_last_seq_not_negative CHECK (last_seq >= 0)
);

CREATE INDEX idx_rooms_created_by ON rooms (created_by);

-- A bump of last_seq is no edit.
CREATE TRIGGER rooms_set_updated_at
BEFORE UPDATE ON rooms
FOR EACH ROW
WHEN ((old.name, old.description, old.is_private) IS DISTINCT FROM (new.name, new.description, new.is_private))
EXECUTE FUNCTION set_updated_at();
