-- The function as 004 has it.

SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '30s';

CREATE OR REPLACE FUNCTION assign_message_seq() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE rooms SET last_seq = last_seq + 1 WHERE id = NEW.room_id RETURNING last_seq INTO NEW.seq;
    RETURN NEW;  -- without such a room seq is null: the foreign key and NOT NULL refuse the row
END;
$$;
