// Made by bin/make-typescript from chatdata/models.py.

/**
 * Times are ISO 8601.
 */
export type AnyModel =
  | User
  | Room
  | RoomUser
  | Message
  | MyRoom
  | Member
  | NewUser
  | UserChanges
  | NewRoom
  | RoomChanges
  | NewMessage
  | ChangedMessage;

/**
 * A row of `users`.
 */
export interface User {
  id: string;
  email: string;
  password_hash: string;
  username: string;
  avatar_url: string | null;
  created_at: string;
  updated_at: string;
}
/**
 * A row of `rooms`; `last_seq` is the number that was given to a message last, 0 before the first.
 */
export interface Room {
  id: string;
  name: string;
  description: string | null;
  is_private: boolean;
  created_by: string | null;
  last_seq: number;
  created_at: string;
  updated_at: string;
}
/**
 * A row of `room_users`: a member of a room, who has read up to `last_read_seq`.
 */
export interface RoomUser {
  room_id: string;
  user_id: string;
  role: "member" | "moderator" | "owner";
  last_read_seq: number;
  joined_at: string;
}
/**
 * A row of `messages`, the `seq`th of its room; a deleted one has an empty `content`.
 *
 * `user_id` is None once the author is deleted.
 */
export interface Message {
  id: string;
  room_id: string;
  seq: number;
  user_id: string | null;
  content: string;
  created_at: string;
  edited_at: string | null;
  deleted_at: string | null;
}
/**
 * A room as one of its members sees it; `unread` counts the messages behind what they have read.
 */
export interface MyRoom {
  room: Room;
  role: "member" | "moderator" | "owner";
  unread: number;
  last_message: Message | null;
}
/**
 * A member of a room as the others see them.
 */
export interface Member {
  user_id: string;
  username: string;
  avatar_url: string | null;
  role: "member" | "moderator" | "owner";
  last_read_seq: number;
  joined_at: string;
}
/**
 * What a user is made of.
 */
export interface NewUser {
  email: string;
  password_hash: string;
  username: string;
  avatar_url?: string | null;
}
/**
 * What may change of a user; what is left out stays.
 */
export interface UserChanges {
  email?: string;
  password_hash?: string;
  username?: string;
  avatar_url?: string | null;
}
/**
 * What a room is made of.
 */
export interface NewRoom {
  name: string;
  description?: string | null;
  is_private?: boolean;
}
/**
 * What may change of a room; what is left out stays.
 */
export interface RoomChanges {
  name?: string;
  description?: string | null;
  is_private?: boolean;
}
/**
 * What a message is made of; with an `id` of the writer's own it can be posted again without harm.
 */
export interface NewMessage {
  user_id: string;
  content: string;
  id?: string | null;
}
/**
 * What may change of a message.
 */
export interface ChangedMessage {
  content: string;
}
