-- Who is in which room, in which part, and how far they have read.
-- Lock: SHARE ROW EXCLUSIVE on users and rooms, for the foreign keys. Undone by dropping the table, with every membership.
-- depends: 002_create_rooms_table
-- The lengths are part of the application's contract.
-- squawk-ignore-file prefer-text-field

SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '30s';

CREATE TABLE room_users (
    room_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role varchar(20) NOT NULL DEFAULT 'member',
    last_read_seq bigint NOT NULL DEFAULT 0,
    joined_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT room_users_pkey PRIMARY KEY (room_id, user_id),
    CONSTRAINT room_users_room_id_fkey FOREIGN KEY (room_id) REFERENCES rooms (id) ON DELETE CASCADE,
    CONSTRAINT room_users_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT room_users_role_known CHECK (role IN ('member', 'moderator', 'owner')),
    CONSTRAINT room_users_last_read_seq_not_negative CHECK (last_read_seq >= 0)
);

-- "My rooms"; the primary key serves "who is in this room".
CREATE INDEX idx_room_users_user_id ON room_users (user_id);
