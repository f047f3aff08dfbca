-- What is said. seq numbers the messages of a room without a gap that could fill up later: it is taken from the
-- room's row, whose lock is held until the writer commits. Any other key (identity, UUIDv7, time of day) lets a
-- reader who asks for "everything since" miss a message that commits late.
-- Lock: SHARE ROW EXCLUSIVE on users and rooms, for the foreign keys. Undone by dropping the table, with every message;
-- rooms.last_seq keeps its value, so numbers are not used twice.
-- depends: 003_create_room_users_table

SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '30s';

CREATE TABLE messages (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    room_id uuid NOT NULL,
    seq bigint NOT NULL,
    user_id uuid,
    content text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    edited_at timestamptz,
    deleted_at timestamptz,
    CONSTRAINT messages_pkey PRIMARY KEY (id),
    CONSTRAINT messages_room_id_seq_key UNIQUE (room_id, seq),
    CONSTRAINT messages_room_id_fkey FOREIGN KEY (room_id) REFERENCES rooms (id) ON DELETE CASCADE,
    CONSTRAINT messages_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL,
    CONSTRAINT messages_content_length CHECK (length(content) BETWEEN 1 AND 10000)
);

CREATE INDEX idx_messages_user_id ON messages (user_id);

CREATE FUNCTION assign_message_seq() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE rooms SET last_seq = last_seq + 1 WHERE id = NEW.room_id RETURNING last_seq INTO NEW.seq;
    RETURN NEW;  -- without such a room seq is null: the foreign key and NOT NULL refuse the row
END;
$$;

CREATE TRIGGER messages_assign_seq
BEFORE INSERT ON messages
FOR EACH ROW
EXECUTE FUNCTION assign_message_seq();
