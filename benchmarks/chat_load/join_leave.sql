-- Come into a room and leave it again: two transactions, and as many members afterwards.
\set room random(1, :rooms)
\set user random(1, :users)
INSERT INTO room_users (room_id, user_id, last_read_seq)
SELECT id, md5('user ' || :user)::uuid, last_seq FROM rooms WHERE id = md5('room ' || :room)::uuid
ON CONFLICT DO NOTHING;
DELETE FROM room_users WHERE room_id = md5('room ' || :room)::uuid AND user_id = md5('user ' || :user)::uuid;
